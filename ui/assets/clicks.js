// Buttons inside rendered HTML: data-frame="3" becomes the event `pick` with {frame: "3"}; what takes
// long has an event of its own.
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-frame], button[data-character], button[data-card], button[data-reference], button[data-correct], button[data-forget], button[data-forget-sure], button[data-keep], button[data-again], button[data-there], button[data-portrait]');
  if (button && element.contains(button)) trigger('again' in button.dataset ? 'again' : 'pick', { ...button.dataset });
});
