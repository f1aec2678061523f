// A report is as tall as what it shows: the page has one scroll bar. Nothing in the frame can run.
element.addEventListener('load', (event) => {
  const frame = event.target;
  if (frame.tagName !== 'IFRAME' || !frame.contentDocument) return;
  // The body, not the document: a document is never shorter than its frame.
  const fit = () => {
    const body = frame.contentDocument.body, style = getComputedStyle(body);
    const margins = parseFloat(style.marginTop) + parseFloat(style.marginBottom);
    frame.style.height = `${Math.ceil(body.getBoundingClientRect().height + margins) + 4}px`;
  };
  fit();
  new ResizeObserver(fit).observe(frame);
  frame.closest('#report-part')?.scrollIntoView({ behavior: 'smooth', block: 'start' });
}, true);
