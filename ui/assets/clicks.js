// Buttons inside rendered HTML: data-frame="3" becomes the event `pick` with {frame: "3"}.
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-frame], button[data-character], button[data-reference], button[data-correct], button[data-forget], button[data-forget-sure], button[data-keep]');
  if (button && element.contains(button)) trigger('pick', { ...button.dataset });
});
