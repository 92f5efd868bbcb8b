// Runs inside the page under test; the value of the last expression is what the test gets.
(() => {
  const problems = [];
  const named = (element) => `<${element.tagName.toLowerCase()}${element.id ? `#${element.id}` : ''}>`;

  if (document.documentElement.lang !== 'en') problems.push('no lang on <html>');
  const headings = document.querySelectorAll('h1').length;
  if (headings !== 1) problems.push(`${headings} h1`);
  if (!document.querySelector('main')) problems.push('no main');
  if (!document.title) problems.push('no title');
  const ids = [...document.querySelectorAll('[id]')].map((element) => element.id);
  for (const id of new Set(ids))
    if (ids.filter((other) => other === id).length > 1) problems.push(`id ${id} twice`);

  for (const field of document.querySelectorAll('input:not([type=hidden]), select, textarea'))
    if (field.labels.length === 0 && !field.ariaLabel) problems.push(`${named(field)} has no label`);
  for (const control of document.querySelectorAll('a[href], button, summary'))
    if (!control.textContent.trim() && !control.ariaLabel) problems.push(`${named(control)} has no name`);
  for (const frame of document.querySelectorAll('iframe'))
    if (!frame.title) problems.push('iframe has no title');
  if (document.querySelector('[style], style, script:not([src])')) problems.push('inline style or script');

  const overflow = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  if (overflow > 0) problems.push(`${overflow} px wider than the window`);

  const parse = (colour) => {
    const [r = 0, g = 0, b = 0, a = 1] = (colour.match(/[\d.]+/g) ?? []).map(Number);
    return { r, g, b, a };
  };
  const luminance = ({ r, g, b }) => {
    const [x, y, z] = [r, g, b].map((value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ratio = (one, other) => {
    const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
  };
  // The banner is striped: its text must stand out from every colour of the stripes.
  const backgrounds = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const style = getComputedStyle(at);
      if (style.backgroundImage !== 'none')
        return (style.backgroundImage.match(/rgba?\([^)]*\)/g) ?? []).map(parse);
      const colour = parse(style.backgroundColor);
      if (colour.a === 1) return [colour];
    }
    return [parse('rgb(255, 255, 255)')];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let lowest = 21;
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.textContent.trim() || !element || element.closest('.hidden, script, .skip, svg')) continue;
    if (!element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const size = Number.parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    for (const background of backgrounds(element)) {
      const found = ratio(parse(style.color), background);
      lowest = Math.min(lowest, found);
      if (found < (large ? 3 : 4.5))
        problems.push(`contrast ${found.toFixed(2)} of "${node.textContent.trim().slice(0, 30)}"`);
    }
  }
  return { problems, lowest };
})();
