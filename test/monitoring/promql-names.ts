/** What an expression of PromQL asks for: enough of the grammar to find metrics and the labels that they are selected by. */

const words = new Set([
  'by',
  'without',
  'on',
  'ignoring',
  'group_left',
  'group_right',
  'and',
  'or',
  'unless',
  'bool',
  'offset',
  'inf',
  'nan',
]);

export interface Selected {
  readonly metric: string;
  /** Labels of its matchers. */
  readonly labels: readonly string[];
}

export function selectedBy(expression: string): Selected[] {
  const bare = expression
    .replace(/#.*$/gm, ' ')
    .replace(/"(?:[^"\\]|\\.)*"/g, '""')
    .replace(/\[[^\]]*\]/g, ' ')
    .replace(/\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)/g, ' ');
  return [...bare.matchAll(/(?<![\w:.])([a-zA-Z_:][\w:]*)\s*(\(|\{[^}]*\})?/g)].flatMap(([, name, after]) => {
    if (after === '(' || words.has(name!.toLowerCase())) return [];
    const labels = [...(after ?? '').matchAll(/(\w+)\s*(?:=~|!~|!=|=)/g)].map(([, label]) => label!);
    return [{ metric: name!, labels }];
  });
}

/** Labels that an expression groups or matches by. */
export function groupedBy(expression: string): string[] {
  const lists = expression.matchAll(/\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)/g);
  return [...lists]
    .flatMap(([, list]) => list!.split(',').map((label) => label.trim()))
    .filter((label) => label !== '');
}
