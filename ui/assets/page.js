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
}
