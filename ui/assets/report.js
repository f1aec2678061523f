// A report is as tall as what it shows: the page has one scroll bar. Nothing in the frame can run.
element.addEventListener('load', (event) => {
  const frame = event.target;
  if (frame.tagName !== 'IFRAME' || !frame.contentDocument) return;
  const fit = () => { frame.style.height = `${frame.contentDocument.documentElement.scrollHeight + 4}px`; };
  fit();
  new ResizeObserver(fit).observe(frame);
  frame.closest('#report-part')?.scrollIntoView({ behavior: 'smooth', block: 'start' });
}, true);
