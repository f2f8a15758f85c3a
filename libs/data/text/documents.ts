/** Documents: stretches of text that have nothing to do with each other, so that a mean over them has an error that can be bounded. */

export interface TextDocument {
  /** For people: a file, or a title in it. */
  readonly name: string;
  readonly text: string;
}

/** The mark between documents that GPT-NeoX models were trained with. */
export const endOfText = '<|endoftext|>';

/** ` = Title = `, as WikiText has over an article; its sections have two signs or more. */
const title = /^ ?= ([^=\n]+) = ?$/gm;
/** Two blank lines or more: one lies between paragraphs. */
const gap = /\n(?:[ \t]*\n){2,}/;

/**
 * The documents of a file: between `<|endoftext|>` where that is written, else from title to title as in WikiText, else between two
 * or more blank lines, else the whole file. Those without a word are left out.
 */
export function documentsOf(text: string, name: string): TextDocument[] {
  const plain = text.replaceAll('\r\n', '\n');
  if (plain.includes(endOfText)) return numbered(plain.split(endOfText), name);
  const titles = [...plain.matchAll(title)];
  if (titles.length > 0) {
    const starts = titles.map(({ index }) => index);
    const first = plain.slice(0, starts[0]);
    const articles = titles.map((match, at) => ({
      name: `${name}: ${match[1]!.trim()}`,
      text: plain.slice(starts[at], starts[at + 1]),
    }));
    return [{ name: `${name}: before the first title`, text: first }, ...articles].filter(hasWords);
  }
  return numbered(plain.split(gap), name);
}

function numbered(texts: readonly string[], name: string): TextDocument[] {
  const documents = texts.filter((text) => hasWords({ text }));
  return documents.map((text, at) => ({ name: documents.length > 1 ? `${name}: document ${at + 1}` : name, text }));
}

function hasWords({ text }: { readonly text: string }): boolean {
  return text.trim().length > 0;
}
