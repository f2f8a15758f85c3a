/**
 * The Brown corpus's tagged form as plain text. A file of it is paragraphs between blank lines, a sentence a line, a word a
 * `word/tag`: punctuation marks are words of their own, quotes are `` and '', and a mark that ends a sentence within one that ends a quote
 * is written twice (`? ?`).
 */

/** Marks that lie against the word before them. */
const closing = new Set(['.', ',', ';', ':', '?', '!', ')', ']', '}']);
const doubled = new Set(['.', ';', '?', '!', ':', ',']);
const opening = new Set(['(', '[', '{']);

/** Paragraphs of running text, a blank line between them. */
export function plainText(tagged: string): string {
  const paragraphs = tagged.split(/\n[ \t]*\n/).map(paragraph);
  return paragraphs.filter((text) => text.length > 0).join('\n\n');
}

function paragraph(tagged: string): string {
  const words = tagged.split(/\s+/).filter((word) => word.length > 0);
  let text = '';
  // Whether the next word lies against what is there, whether a single quote is open, and the word before.
  let joined = true;
  let quoted = false;
  let before = '';
  for (const word of words.map(untagged)) {
    if (doubled.has(word) && word === before) continue;
    // Inches: 1/4'' is followed by its mark once more.
    if (word === "''" && before.endsWith("''")) continue;
    const closes = closing.has(word) || word === "''" || (word === "'" && quoted);
    const opens = opening.has(word) || word === '``' || (word === "'" && !quoted);
    if (word === "'") quoted = !quoted;
    text += (joined || closes ? '' : ' ') + word.replaceAll(/``|''/g, '"');
    joined = opens;
    before = word;
  }
  return text;
}

function untagged(word: string): string {
  const slash = word.lastIndexOf('/');
  return slash > 0 ? word.slice(0, slash) : word;
}
