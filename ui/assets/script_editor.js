// The writing desk: characters as cards, scenes as a list. Gradio calls this with `element`,
// `trigger`, `props`, `watch` and `upload`. The value is {cast, scenes}; the browser owns it, so
// that typing never waits for the server. All text goes through textContent and .value.
const root = element.querySelector('.desk');
const live = element.querySelector('.desk-live');
const BLANK_CARD = { name: '', description: '', library: '', strength: null };
const BLANK_SCENE = { prompt: '', caption: '', style: '', seed: '', negative: '', where: '' };
const copy = (value) => JSON.parse(JSON.stringify(value));
// What was typed and is not saved yet survives a reload here, and nowhere longer than the tab.
const UNSAVED = 'studio-unsaved';
let draft = read(props.value);
let timer = null;
let serial = Date.now();

function read(value) {
  const cards = (list, blank) => (Array.isArray(list) ? list : []).map((x) => ({ ...blank, ...x }));
  return { cast: cards(value?.cast, BLANK_CARD), scenes: cards(value?.scenes, BLANK_SCENE) };
}

function h(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name === 'value') node.value = value ?? '';
    else if (value === true) node.setAttribute(name, '');
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child != null && child !== false));
  return node;
}

function commit() {
  serial += 1;
  props.value = { ...copy(draft), serial };
  try { sessionStorage.setItem(UNSAVED, JSON.stringify(draft)); } catch { /* no room: autosave is soon */ }
  clearTimeout(timer);
  timer = setTimeout(() => trigger('edited'), 700);
}

function say(text) {
  live.textContent = text;
}

// After a change of structure everything is drawn anew; `focus` is the data-key to return to.
function rebuild(focus) {
  commit();
  render();
  if (focus) root.querySelector(`[data-key="${focus}"]`)?.focus();
}

function field(label, control, extra) {
  return h('label', { class: `field ${extra || ''}` }, h('span', { class: 'field-name' }, label), control);
}

function tool(label, sign, key, action, disabled) {
  return h('button', {
    type: 'button', class: 'tool', 'aria-label': label, title: label, 'data-key': key,
    disabled: !!disabled, onclick: action,
  }, sign);
}

const hues = [14, 150, 42, 205, 280, 95, 330, 180];
const initial = (name) => ([...(name || '?')][0] || '?').toUpperCase();

function castCard(card, index) {
  const who = card.name || `character ${index + 1}`;
  const known = (props.library || []).find((entry) => entry.id === card.library);
  const avatar = h('span', { class: 'avatar', 'aria-hidden': 'true', style: `--hue:${hues[index % hues.length]}` },
    initial(card.name));
  const name = h('input', {
    type: 'text', value: card.name, maxlength: 40, placeholder: 'Name', 'data-key': `cast-${index}-name`,
    autocomplete: 'off',
    oninput: (event) => {
      card.name = event.target.value;
      avatar.textContent = initial(card.name);
      relabel(card, index);
      commit();
    },
    onfocus: (event) => { event.target.dataset.before = card.name; },
    onchange: (event) => {
      renamed(event.target.dataset.before, card.name);
      event.target.dataset.before = card.name;
    },
  });
  const looks = h('textarea', {
    rows: 2, value: card.description, maxlength: 400, placeholder: 'a girl with curly ginger hair',
    'data-key': `cast-${index}-looks`,
    oninput: (event) => { card.description = event.target.value; commit(); },
  });
  return h('article', { class: 'paper-card cast-card', 'data-card': index, 'aria-label': `Character ${who}` },
    h('div', { class: 'cast-head' }, avatar, field('Name', name, 'grow'),
      tool(`Remove ${who}`, '×', `cast-${index}-remove`, () => {
        draft.cast.splice(index, 1);
        say(`${who} is removed`);
        rebuild('add-cast');
      })),
    field('Looks like', looks), h('div', { class: 'marks', 'data-marks': `cast-${index}` }),
    h('details', { class: 'scene-more', open: !!known }, h('summary', {}, `Picture of ${who}`),
      h('div', { class: 'cast-picture' }, librarySelect(card, index, who), pictureButton(index, who)),
      known ? strengthSlider(card, who) : null));
}

function librarySelect(card, index, who) {
  const select = h('select', {
    'data-key': `cast-${index}-library`,
    onchange: (event) => {
      card.library = event.target.value;
      const entry = (props.library || []).find((other) => other.id === card.library);
      if (entry && !card.description) card.description = entry.description;
      if (entry && !card.name) card.name = entry.name;
      rebuild(`cast-${index}-library`);
    },
  }, h('option', { value: '' }, 'words only'));
  for (const entry of props.library || []) select.append(h('option', { value: entry.id }, `${entry.name} (library)`));
  select.value = (props.library || []).some((entry) => entry.id === card.library) ? card.library : '';
  return field('Drawn from', select, 'grow');
}

function pictureButton(index, who) {
  const input = h('input', {
    type: 'file', accept: 'image/png,image/jpeg,image/webp', class: 'visually-hidden', tabindex: '-1',
    'aria-label': `Reference picture of ${who}`,
    onchange: async (event) => {
      const [file] = event.target.files;
      if (!file) return;
      say(`Sending the picture of ${who}`);
      const sent = await upload(file);
      trigger('picture', { index, path: sent.path });
    },
  });
  return h('span', { class: 'picture-button' }, input, h('button', {
    type: 'button', class: 'quiet', 'data-key': `cast-${index}-picture`, onclick: () => input.click(),
    'aria-label': `Add a reference picture of ${who}`,
  }, 'Add picture'));
}

function strengthSlider(card, who) {
  const shown = h('output', {}, card.strength == null ? 'usual' : card.strength.toFixed(2));
  const slider = h('input', {
    type: 'range', min: 0, max: 1, step: 0.05, value: card.strength ?? 0.6,
    'aria-label': `How strongly the pictures of ${who} bind`,
    oninput: (event) => { card.strength = Number(event.target.value); shown.textContent = card.strength.toFixed(2); commit(); },
  });
  return h('label', { class: 'field strength' }, h('span', { class: 'field-name' }, 'Strength ', shown), slider);
}

// The caret may be in another field by now, so texts change in place and nothing is drawn anew.
function renamed(before, now) {
  if (!before || !now || before === now) return;
  // Braces may hold adjectives before the name: {sad Mia}.
  const escaped = before.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  const pattern = new RegExp(`\\{([^{}]* )?${escaped}\\}`, 'g');
  draft.scenes.forEach((scene, index) => {
    scene.prompt = scene.prompt.replace(pattern, (_, words) => `{${words || ''}${now}}`);
    show(root.querySelector(`[data-key="scene-${index}-prompt"]`), scene.prompt);
  });
  commit();
}

// Put a text into a field; the caret stays where it is in it.
function show(input, text) {
  if (!input || input.value === text) return;
  const [start, end] = [input.selectionStart, input.selectionEnd];
  input.value = text;
  if (document.activeElement === input) input.setSelectionRange(start, end);
}

// Names stand on chips and in labels of other elements.
function relabel(card, index) {
  const who = card.name || `character ${index + 1}`;
  root.querySelector(`[data-card="${index}"]`)?.setAttribute('aria-label', `Character ${who}`);
  const remove = root.querySelector(`[data-key="cast-${index}-remove"]`);
  if (remove) remove.title = `Remove ${who}`;
  const more = root.querySelector(`[data-card="${index}"] summary`);
  if (more) more.textContent = `Picture of ${who}`;
  remove?.setAttribute('aria-label', `Remove ${who}`);
  for (const made of root.querySelectorAll(`[data-chip="${index}"]`)) label(made, card.name);
}

function label(made, name) {
  made.hidden = !name;
  made.textContent = `+ ${name}`;
  made.setAttribute('aria-label', `Put ${name} into scene ${made.dataset.scene}`);
}

// What the server says of the words, at the scene or the character that it is about.
function paint() {
  const marks = props.marks || {};
  draft.scenes.forEach((scene, index) => mark(marks.scenes?.[index], scene, 'prompt', `scene-${index}`, `scene-${index}-prompt`));
  draft.cast.forEach((card, index) => mark(marks.cast?.[index], card, 'description', `cast-${index}`, `cast-${index}-looks`));
  root.querySelector('[data-marks="story"]')?.replaceChildren(
    ...(marks.story || []).map((text) => h('p', { class: 'mark trouble' }, text)));
}

function mark(said, owner, field, place, key) {
  const node = root.querySelector(`[data-marks="${place}"]`);
  if (!node) return;
  const problems = said?.problems || [];
  const now = said && squeezed(said.written) === squeezed(owner[field]);
  const input = root.querySelector(`[data-key="${key}"]`);
  node.closest('.paper-card').classList.toggle('marked', problems.length > 0);
  input?.setAttribute('aria-invalid', String(problems.length > 0));
  const lines = problems.map((text) => h('p', { class: 'mark trouble' }, text));
  if (now) lines.push(...said.words.map((word) => wordMark(word, owner, field, input)),
    ...said.notices.map((text) => h('p', { class: 'mark' }, text)));
  node.replaceChildren(...lines);
}

const squeezed = (text) => String(text ?? '').split(/\s+/).filter(Boolean).join(' ');

function wordMark(word, owner, field, input) {
  const told = word.fate === 'near' ? ` is drawn as “${word.drawn}”` : word.fate === 'speech'
    ? ' is said, so it is not drawn; put it into a bubble' : ' cannot be drawn and is left out';
  const choices = word.fate === 'left_out' ? word.nearest : [];
  return h('p', { class: `mark ${word.fate}` }, h('strong', {}, `“${word.said}”`), told,
    choices.length ? '. Draw instead: ' : '', ...choices.map((choice) => h('button', {
      type: 'button', class: 'chip', 'aria-label': `Write ${choice} instead of ${word.said}`,
      onclick: () => {
        owner[field] = owner[field].replace(word.said, choice);
        show(input, owner[field]);
        commit();
        paint();
        input?.focus();
      },
    }, choice)));
}

function sceneCard(scene, index) {
  const number = index + 1;
  const prompt = h('textarea', {
    rows: 2, value: scene.prompt, maxlength: 800, 'data-key': `scene-${index}-prompt`,
    placeholder: '{Mia} reading a book in the forest',
    oninput: (event) => { scene.prompt = event.target.value; commit(); },
    onkeydown: (event) => {
      if (event.altKey && (event.key === 'ArrowUp' || event.key === 'ArrowDown')) {
        event.preventDefault();
        move(index, event.key === 'ArrowUp' ? -1 : 1, 'prompt');
      }
    },
  });
  const caption = h('input', {
    type: 'text', value: scene.caption, maxlength: 600, 'data-key': `scene-${index}-caption`,
    placeholder: 'What readers see under the picture', autocomplete: 'off',
    oninput: (event) => { scene.caption = event.target.value; commit(); },
  });
  const last = draft.scenes.length - 1;
  return h('li', { class: 'paper-card scene-card', 'aria-label': `Scene ${number}` },
    h('div', { class: 'scene-head' }, h('span', { class: 'scene-number', 'aria-hidden': 'true' }, String(number)),
      h('span', { class: 'chips' }, ...draft.cast.map((card, who) => chip(card, who, scene, prompt, number))),
      h('span', { class: 'tools' },
        tool(`Move scene ${number} up`, '↑', `scene-${index}-up`, () => move(index, -1, 'up'), index === 0),
        tool(`Move scene ${number} down`, '↓', `scene-${index}-down`, () => move(index, 1, 'down'), index === last),
        tool(`Remove scene ${number}`, '×', `scene-${index}-remove`, () => {
          draft.scenes.splice(index, 1);
          say(`Scene ${number} is removed`);
          rebuild('add-scene');
        }))),
    field(`Scene ${number}`, prompt, 'hide-name'), h('div', { class: 'marks', 'data-marks': `scene-${index}` }),
    field('Caption', caption), sceneMore(scene, index));
}

function chip(card, who, scene, prompt, number) {
  const made = h('button', {
    type: 'button', class: 'chip', 'data-chip': who, 'data-scene': number,
    onclick: () => {
      const word = `{${card.name}}`;
      const at = prompt.selectionStart ?? prompt.value.length;
      const end = prompt.selectionEnd ?? at;
      const before = prompt.value.slice(0, at);
      const space = before && !/\s$/.test(before) ? ' ' : '';
      prompt.value = before + space + word + prompt.value.slice(end);
      scene.prompt = prompt.value;
      prompt.focus();
      prompt.setSelectionRange(at + space.length + word.length, at + space.length + word.length);
      commit();
    },
  });
  label(made, card.name);
  return made;
}

function sceneMore(scene, index) {
  const style = h('select', { onchange: (event) => { scene.style = event.target.value; commit(); } },
    h('option', { value: '' }, 'as the story'), ...(props.styles || []).map((name) => h('option', { value: name }, name)));
  style.value = scene.style || '';
  const text = (key, placeholder, mode) => h('input', {
    type: 'text', value: scene[key], placeholder, autocomplete: 'off', inputmode: mode || 'text',
    oninput: (event) => { scene[key] = event.target.value; commit(); },
  });
  const open = !!(scene.style || scene.seed || scene.negative || scene.where);
  return h('details', { class: 'scene-more', open },
    h('summary', {}, `More for scene ${index + 1}`),
    h('div', { class: 'more-fields' }, field('Style', style),
      field('Seed', text('seed', 'from the story', 'numeric')), field('Leave out', text('negative', 'rain, fog')),
      field('Where', text('where', 'Mia left, Bruno right'))));
}

function move(index, by, part) {
  const to = index + by;
  if (to < 0 || to >= draft.scenes.length) return;
  const [scene] = draft.scenes.splice(index, 1);
  draft.scenes.splice(to, 0, scene);
  say(`Scene ${index + 1} is now scene ${to + 1}`);
  rebuild(`scene-${to}-${part}`);
  const button = root.querySelector(`[data-key="scene-${to}-${part}"]`);
  if (button?.disabled) root.querySelector(`[data-key="scene-${to}-prompt"]`)?.focus();
}

function render() {
  const held = document.activeElement?.closest?.('.desk') === root ? document.activeElement : null;
  const [key, start, end] = [held?.dataset.key, held?.selectionStart, held?.selectionEnd];
  const cast = h('div', { class: 'cast-list' }, ...draft.cast.map(castCard));
  const scenes = h('ol', { class: 'scene-list' }, ...draft.scenes.map(sceneCard));
  root.replaceChildren(
    h('section', { 'aria-label': 'Characters' }, h('h3', {}, 'Characters'), cast,
      h('button', {
        type: 'button', class: 'add', 'data-key': 'add-cast', disabled: draft.cast.length >= 20,
        onclick: () => { draft.cast.push({ ...BLANK_CARD }); rebuild(`cast-${draft.cast.length - 1}-name`); },
      }, '+ Add a character')),
    h('section', { 'aria-label': 'Scenes' }, h('h3', {}, 'Scenes'), h('div', { class: 'marks', 'data-marks': 'story' }), scenes,
      h('button', {
        type: 'button', class: 'add', 'data-key': 'add-scene', disabled: draft.scenes.length >= 200,
        onclick: () => { draft.scenes.push({ ...BLANK_SCENE }); rebuild(`scene-${draft.scenes.length - 1}-prompt`); },
      }, '+ Add a scene')));
  paint();
  const again = key && root.querySelector(`[data-key="${key}"]`);
  again?.focus({ preventScroll: true });
  if (again && start != null) again.setSelectionRange(start, end);
}

render();
watch('value', () => {
  if (props.value?.serial === serial) return; // it is what was typed here
  draft = read(props.value);
  render();
  if (Array.isArray(props.value?.scenes)) sessionStorage.removeItem(UNSAVED);
});
watch(['library', 'styles'], render);
watch('marks', () => {
  if (props.marks?.serial === serial) sessionStorage.removeItem(UNSAVED);
  paint();
});
// A picture became a library character: only that card changes, whatever was typed meanwhile.
watch('assigned', () => {
  const card = draft.cast[props.assigned?.index];
  if (!card || card.name !== props.assigned.name) return;
  card.library = props.assigned.library;
  rebuild();
});
