/** The wait of a worker between two looks for work, which what happens meanwhile cuts short. */
export class Rest {
  #woken = false;
  #end: (() => void) | undefined;

  /** Ends the wait; where nobody waits yet, the next one. */
  wake(): void {
    this.#woken = true;
    this.#end?.();
  }

  /** Waits so many milliseconds, or until {@link wake}; not at all where that came since the last wait. */
  async wait(milliseconds: number): Promise<void> {
    if (!this.#woken) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, milliseconds);
        this.#end = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    this.#end = undefined;
    this.#woken = false;
  }
}
