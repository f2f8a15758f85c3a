/**
 * Where every original token of one sample is after each stage: the place of the token that it has become part of, −1 where it was
 * dropped. `groups[k]` gives, for each token entering stage k, its place among those that it kept, or −1.
 * @param tokens tokens at the entry of the first stage
 */
export function traceTokens(groups: readonly ArrayLike<number>[], tokens: number): Int32Array[] {
  let where = Int32Array.from({ length: tokens }, (_, token) => token);
  return groups.map((moves) => {
    where = where.map((place) => (place < 0 ? -1 : (moves[place] ?? -1)));
    return where;
  });
}
