/** An error's text as one line. */
export function oneLine(message: string): string {
  return message.replace(/\s+/g, ' ').trim();
}
