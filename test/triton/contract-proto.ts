import { enums, messages } from './contract.js';

/** The contract as the text of a .proto file. */
export function contractProto(): string {
  return ['syntax = "proto3";', 'package inference;', ...definitionsIn('')].join('\n');
}

/** The messages and enums that are defined directly within `outer`, '' for the file. */
function definitionsIn(outer: string): string[] {
  const within = (path: string) => path.split('.').slice(0, -1).join('.') === outer;
  const lastOf = (path: string) => path.split('.').at(-1) ?? path;
  return [
    ...Object.entries(enums)
      .filter(([path]) => within(path))
      .map(
        ([path, names]) => `enum ${lastOf(path)} { ${names.map((name, value) => `${name} = ${value};`).join(' ')} }`,
      ),
    ...Object.entries(messages)
      .filter(([path]) => within(path))
      .map(
        ([path, fields]) => `message ${lastOf(path)} { ${[...definitionsIn(path), ...fieldsOf(fields)].join(' ')} }`,
      ),
  ];
}

function fieldsOf(table: string): string[] {
  const plain: string[] = [];
  const oneofs = new Map<string, string[]>();
  for (const text of table.split(' ').filter(Boolean)) {
    const [, name, number, repeated, key, type, choice] =
      /^(\w+)=(\d+):(\*?)(?:(\w+)>)?(\w+)(?:\((\w+)\))?$/.exec(text) ?? [];
    if (name === undefined || type === undefined) throw new Error(`contract: ${text}`);
    const label = repeated === '*' ? 'repeated ' : '';
    const field = `${label}${key === undefined ? type : `map<${key}, ${type}>`} ${name} = ${number};`;
    if (choice === undefined) plain.push(field);
    else oneofs.set(choice, [...(oneofs.get(choice) ?? []), field]);
  }
  return [...plain, ...[...oneofs].map(([choice, fields]) => `oneof ${choice} { ${fields.join(' ')} }`)];
}
