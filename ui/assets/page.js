() => {
  // The mode that was chosen here before; without one, gradio follows the system.
  const kept = localStorage.getItem('studio-light');
  if (kept) document.body.classList.toggle('dark', kept === 'dark');
  // Names that gradio 6.31 leaves out: the box that one talks in, and pictures in a conversation.
  const name = () => {
    document.querySelector('#say textarea:not([aria-label])')?.setAttribute('aria-label', 'Say something');
    for (const picture of document.querySelectorAll('#chat img[alt=""]')) picture.alt = 'Picture in the conversation';
  };
  new MutationObserver(name).observe(document.body, { childList: true, subtree: true });
  name();
  // A column that is taller than the window stays with its end in sight, a shorter one with its top.
  const stay = () => {
    for (const column of document.querySelectorAll('.column-desk, .column-board')) {
      const room = innerHeight - column.offsetHeight - 10;
      column.style.setProperty('--stays-at', `${Math.min(10, room)}px`);
    }
  };
  const sizes = new ResizeObserver(stay);
  for (const column of document.querySelectorAll('.column-desk, .column-board')) sizes.observe(column);
  addEventListener('resize', stay);
  stay();
}
