// Speech over a picture: bubbles can be dragged, or moved with the arrow keys; so can the points
// that say who speaks. The value is {picture, bubbles}; places are fractions of the picture.
const root = element.querySelector('.speech');
const copy = (value) => JSON.parse(JSON.stringify(value));
const clamp = (x) => Math.round(1000 * Math.min(1, Math.max(0, x))) / 1000;
let bubbles = [];
let picture = null;

function read() {
  picture = props.value?.picture?.url || null;
  bubbles = copy(props.value?.bubbles || []);
}

function commit() {
  props.value = { ...props.value, bubbles: copy(bubbles) };
}

function node(tag, attributes, text) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === false || value == null) continue;
    if (name.startsWith('on')) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? '' : value);
  }
  if (text != null) made.textContent = text;
  return made;
}

// `keys` are the two fields that hold the place: x and y, or tail_x and tail_y.
function movable(part, stage, bubble, keys) {
  const place = () => {
    part.style.left = `${100 * bubble[keys[0]]}%`;
    part.style.top = `${100 * bubble[keys[1]]}%`;
  };
  const put = (x, y) => { bubble[keys[0]] = clamp(x); bubble[keys[1]] = clamp(y); place(); };
  part.addEventListener('pointerdown', (event) => { part.setPointerCapture(event.pointerId); event.preventDefault(); part.focus(); });
  part.addEventListener('pointermove', (event) => {
    if (!part.hasPointerCapture(event.pointerId)) return;
    const box = stage.getBoundingClientRect();
    put((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  });
  part.addEventListener('pointerup', commit);
  part.addEventListener('keydown', (event) => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!way) return;
    event.preventDefault();
    put(bubble[keys[0]] + 0.02 * way[0], bubble[keys[1]] + 0.02 * way[1]);
    commit();
  });
  place();
}

function stage() {
  const made = node('div', { class: 'speech-stage' });
  made.append(node('img', { src: picture, alt: 'The picture that the speech is put on' }));
  bubbles.forEach((bubble, index) => {
    const part = node('div', {
      class: bubble.thought ? 'bubble thought' : 'bubble', tabindex: '0', role: 'group',
      'aria-label': `Bubble ${index + 1}; move it with the arrow keys`,
    }, bubble.text || '…');
    movable(part, made, bubble, ['x', 'y']);
    made.append(part);
    if (bubble.tail_x == null || bubble.tail_y == null) return;
    const tail = node('div', {
      class: 'tail', tabindex: '0', role: 'group',
      'aria-label': `Who says bubble ${index + 1}; move it with the arrow keys`,
    });
    movable(tail, made, bubble, ['tail_x', 'tail_y']);
    made.append(tail);
  });
  return made;
}

function row(bubble, index) {
  const made = node('div', { class: 'bubble-row' });
  const label = node('label', { class: 'field grow' });
  const text = node('input', { type: 'text', maxlength: 200, placeholder: 'What is said' });
  text.value = bubble.text;
  text.addEventListener('input', () => {
    bubble.text = text.value;
    commit();
    root.querySelectorAll('.bubble')[index].textContent = text.value || '…';
  });
  label.append(node('span', { class: 'field-name' }, `Bubble ${index + 1}`), text);
  const thought = node('label', { class: 'check' });
  const box = node('input', { type: 'checkbox' });
  box.checked = !!bubble.thought;
  box.addEventListener('change', () => { bubble.thought = box.checked; commit(); render(); });
  thought.append(box, ' thought');
  made.append(label, thought, node('button', {
    type: 'button', class: 'tool', 'aria-label': `Remove bubble ${index + 1}`,
    onclick: () => { bubbles.splice(index, 1); commit(); render(); },
  }, '×'));
  return made;
}

function render() {
  root.replaceChildren();
  if (!picture) return;
  const rows = node('div', { class: 'bubble-rows' });
  rows.append(...bubbles.map(row));
  rows.append(node('button', {
    type: 'button', class: 'add', disabled: bubbles.length >= 6,
    onclick: () => {
      bubbles.push({ text: '', x: 0.5, y: 0.15, tail_x: 0.5, tail_y: 0.45, thought: false });
      commit();
      render();
      [...root.querySelectorAll('.bubble-row input[type=text]')].pop()?.focus();
    },
  }, '+ Add a speech bubble'));
  root.append(stage(), rows);
}

read();
render();
watch('value', () => { read(); render(); });
