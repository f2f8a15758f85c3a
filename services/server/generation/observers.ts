import type { GenerationObserver } from './observer.js';

type Told = keyof GenerationObserver;

/** Several observers as one, told in their order. What one throws is reported, and costs its count alone. */
export function observeBy(
  observers: readonly GenerationObserver[],
  report: (error: unknown) => void,
): Required<GenerationObserver> {
  const tell =
    <Name extends Told>(name: Name) =>
    (...told: Parameters<NonNullable<GenerationObserver[Name]>>): void => {
      for (const observer of observers) {
        try {
          (observer[name] as ((...told: unknown[]) => void) | undefined)?.call(observer, ...told);
        } catch (thrown) {
          report(thrown);
        }
      }
    };
  return {
    stepBegins: tell('stepBegins'),
    stepped: tell('stepped'),
    stepFailed: tell('stepFailed'),
    firstToken: tell('firstToken'),
    nextToken: tell('nextToken'),
    ended: tell('ended'),
  };
}
