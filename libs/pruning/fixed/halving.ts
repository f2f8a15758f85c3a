/** How often the way between the last measured prefix within the budget and the first beyond it is halved. */
const halvings = 4;
/** Of the budget, what that looks for: the bound on the certifying samples lies above the mean on the searched ones. */
const aim = 0.9;
/** Plans that are tried at most: each is a run over all that certifies. */
const mostTried = 6;

/** Measures prefixes between one that is within the budget and one beyond it. @param measure nats of a prefix of so many steps */
export async function halve(
  within: number,
  beyond: number,
  lossBudget: number,
  measure: (count: number) => Promise<number>,
): Promise<void> {
  let [low, high] = [within, beyond];
  for (let turn = 0; turn < halvings && high - low > 1; turn++) {
    const middle = (low + high) >> 1;
    if ((await measure(middle)) > aim * lossBudget) high = middle;
    else low = middle;
  }
}

/** Those within the budget, the safest first: that one, and those that lose the most. */
export function toCertify<T extends { readonly measured: number }>(measured: readonly T[], lossBudget: number): T[] {
  const within = measured.filter((each) => each.measured <= lossBudget).sort((a, b) => a.measured - b.measured);
  return within.length > mostTried ? [within[0]!, ...within.slice(1 - mostTried)] : within;
}
