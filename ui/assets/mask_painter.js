// A picture in which something is marked: painted with a brush, or boxes. The value is {picture,
// marks}; a mark is {tool: 'brush' | 'eraser', width, points} or {tool: 'box', points} of two
// corners, places and widths in shares of the picture's sides and width. The first mark raises
// `pick`. Arrow keys move a cross, and space marks there.
const root = element.querySelector('.painter');
const live = element.querySelector('.painter-live');
const LEAST = 0.01; // between two points of a stroke
const MOST_MARKS = 200, MOST_POINTS = 6000; // in all
const share = (x) => Math.round(10000 * Math.min(1, Math.max(0, x))) / 10000;
let marks = [], picture = null, tool = 'brush', width = 0.12, cross = null, corner = null;
let canvas = null;

function node(tag, attributes, text) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith('on')) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value);
  }
  if (text != null) made.textContent = text;
  return made;
}

function commit(words) {
  const first = !props.value?.marks?.length && marks.length;
  props.value = { ...props.value, marks: JSON.parse(JSON.stringify(marks)) };
  live.textContent = words;
  if (first) trigger('pick', {});
  paint();
}

function trace(pen, mark) {
  const points = mark.points.map(([x, y]) => [x * canvas.width, y * canvas.height]);
  pen.globalCompositeOperation = mark.tool === 'eraser' ? 'destination-out' : 'source-over';
  if (mark.tool === 'box') {
    const [[x0, y0], [x1, y1]] = points;
    pen.fillRect(Math.min(x0, x1), Math.min(y0, y1), Math.abs(x1 - x0), Math.abs(y1 - y0));
    return;
  }
  pen.lineWidth = mark.width * canvas.width;
  pen.beginPath();
  pen.moveTo(...points[0]);
  for (const point of points) pen.lineTo(...point);
  pen.stroke();
}

function paint(drawn) {
  if (!canvas) return;
  const pen = canvas.getContext('2d');
  pen.globalCompositeOperation = 'source-over';
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.lineCap = pen.lineJoin = 'round';
  pen.strokeStyle = pen.fillStyle = '#dc2828';
  for (const mark of drawn ? [...marks, drawn] : marks) trace(pen, mark);
  pen.globalCompositeOperation = 'source-over';
  const at = corner || cross;
  if (!at) return;
  pen.lineWidth = 2;
  pen.strokeStyle = '#1b1b1b';
  for (const [x, y] of [corner, cross].filter(Boolean)) {
    pen.strokeRect(x * canvas.width - 5, y * canvas.height - 5, 10, 10);
  }
}

function add(mark) {
  const points = marks.reduce((sum, one) => sum + one.points.length, mark.points.length);
  if (marks.length >= MOST_MARKS || points > MOST_POINTS) {
    paint();
    live.textContent = 'That is all that can be marked; take some back.';
    return;
  }
  marks.push(mark);
  commit(mark.tool === 'eraser' ? 'Erased.' : 'Marked.');
}

function place(event) {
  const box = canvas.getBoundingClientRect();
  return [share((event.clientX - box.left) / box.width), share((event.clientY - box.top) / box.height)];
}

function byPointer() {
  let mark = null;
  canvas.addEventListener('pointerdown', (event) => {
    if (event.button) return;
    event.preventDefault();
    canvas.setPointerCapture(event.pointerId);
    cross = corner = null;
    const at = place(event);
    mark = tool === 'box' ? { tool, points: [at, at] } : { tool, width, points: [at] };
    paint(mark);
  });
  canvas.addEventListener('pointermove', (event) => {
    if (!mark) return;
    const at = place(event), last = mark.points[mark.points.length - 1];
    if (tool === 'box') mark.points[1] = at;
    else if (Math.hypot(at[0] - last[0], at[1] - last[1]) >= LEAST && mark.points.length < MOST_POINTS) mark.points.push(at);
    paint(mark);
  });
  const end = () => { const done = mark; mark = null; if (done) add(done); };
  canvas.addEventListener('pointerup', end);
  canvas.addEventListener('pointercancel', () => { mark = null; paint(); });
}

function byKeys() {
  canvas.addEventListener('keydown', (event) => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!way && event.key !== ' ') return;
    event.preventDefault();
    cross = cross || [0.5, 0.5];
    if (way) {
      cross = [share(cross[0] + 0.02 * way[0]), share(cross[1] + 0.02 * way[1])];
      paint();
    } else if (tool !== 'box') {
      add({ tool, width, points: [cross] });
    } else if (corner) {
      const from = corner;
      corner = null;
      add({ tool, points: [from, cross] });
    } else {
      corner = cross;
      paint();
      live.textContent = 'One corner is set; go to the other one.';
    }
  });
  canvas.addEventListener('blur', () => { cross = corner = null; paint(); });
}

function tools() {
  const row = node('div', { class: 'painter-tools', role: 'group', 'aria-label': 'How it is marked' });
  for (const [name, label] of [['brush', 'Brush'], ['box', 'Box'], ['eraser', 'Eraser']]) {
    row.append(node('button', {
      type: 'button', class: 'chip', 'aria-pressed': `${tool === name}`,
      onclick: (event) => {
        tool = name;
        for (const other of row.querySelectorAll('.chip')) other.setAttribute('aria-pressed', `${other === event.currentTarget}`);
      },
    }, label));
  }
  const size = node('input', { type: 'range', min: '0.02', max: '0.4', step: '0.02', value: `${width}`, 'aria-label': 'Width of the brush' });
  size.addEventListener('input', () => { width = Number(size.value); });
  row.append(
    size,
    node('button', { type: 'button', class: 'quiet', onclick: () => { marks.pop(); commit('The last mark is taken back.'); } }, 'Take back the last'),
    node('button', { type: 'button', class: 'quiet', onclick: () => { marks = []; commit('Nothing is marked.'); } }, 'Clear'),
  );
  return row;
}

function render() {
  root.replaceChildren();
  canvas = null;
  if (!picture) return;
  const stage = node('div', { class: 'painter-stage' });
  const image = node('img', { src: picture, alt: 'The picture of which a part is drawn again' });
  canvas = node('canvas', {
    tabindex: '0', role: 'img',
    'aria-label': 'What is drawn again; arrow keys move a cross, space marks there',
  });
  const sized = () => {
    canvas.width = 512;
    canvas.height = Math.max(1, Math.round(512 * image.naturalHeight / Math.max(1, image.naturalWidth)));
    paint();
  };
  image.addEventListener('load', sized);
  sized();
  byPointer();
  byKeys();
  stage.append(image, canvas);
  root.append(tools(), stage);
}

function read() {
  picture = props.value?.picture?.url || null;
  marks = JSON.parse(JSON.stringify(props.value?.marks || []));
}

read();
render();
watch('value', () => {
  const same = (props.value?.picture?.url || null) === picture;
  if (same && JSON.stringify(props.value?.marks || []) === JSON.stringify(marks)) return;
  read();
  if (same) paint();
  else render();
});
