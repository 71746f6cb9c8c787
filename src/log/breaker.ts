/** Leave for one call to the broker. Exactly one of these is called when it has ended. */
export type Pass = {
  readonly succeeded: () => void;
  readonly failed: (error: unknown) => void;
  /** It ended without a word on the broker. */
  readonly undecided: () => void;
};

/**
 * Keeps a broker that fails from costing each call its deadline: closed, all calls go; after one failure it is open and
 * none go, until a wait is over; then one call, a probe, decides.
 */
export type Breaker = {
  /** Leave for an ordinary call: while closed only. */
  readonly pass: () => Pass | null;
  /** Leave for a call that may be the probe. */
  readonly probe: () => Pass | null;
  /** How long to wait before the next `probe`, milliseconds. */
  readonly waitMs: () => number;
};

export type BreakerOptions = {
  /** Wait after the first failure, milliseconds; doubles with each failed probe, up to `maxMs`. */
  readonly baseMs: number;
  readonly maxMs: number;
  readonly onOpen: (error: unknown) => void;
  /** Told of each probe that failed, which may say more than the call before it. (Default: nobody is told) */
  readonly onFailedProbe?: (error: unknown) => void;
  readonly onClose: () => void;
  /** Milliseconds; must not jump. (Default: `performance.now`) */
  readonly now?: () => number;
};

export const createBreaker = (options: BreakerOptions): Breaker => {
  const { baseMs, maxMs, onOpen, onFailedProbe = () => {}, onClose, now = () => performance.now() } = options;
  /** When the next probe may go, or null while closed. */
  let probeAt: number | null = null;
  let waitMs = baseMs;
  let probing = false;
  /** Rises with each change: what a call that began before it has to say is out of date. */
  let epoch = 0;

  const turn = () => {
    epoch += 1;
    ordinary = passOf(false);
  };

  const open = (error: unknown) => {
    const wasClosed = probeAt === null;
    turn();
    waitMs = wasClosed ? baseMs : Math.min(maxMs, waitMs * 2);
    probeAt = now() + waitMs;
    if (wasClosed) onOpen(error);
    else onFailedProbe(error);
  };

  const close = () => {
    turn();
    probeAt = null;
    onClose();
  };

  const passOf = (isProbe: boolean): Pass => {
    const begun = epoch;
    /** @returns whether the call may still speak */
    const end = (): boolean => {
      if (epoch !== begun) return false;
      if (isProbe) probing = false;
      return true;
    };
    return {
      succeeded: () => {
        if (end() && isProbe) close();
      },
      failed: (error) => {
        if (end()) open(error);
      },
      undecided: () => {
        end();
      },
    };
  };

  /** All ordinary calls of an epoch share one. */
  let ordinary = passOf(false);

  return {
    pass: () => (probeAt === null ? ordinary : null),
    probe: () => {
      if (probeAt === null) return ordinary;
      if (probing || now() < probeAt) return null;
      probing = true;
      return passOf(true);
    },
    waitMs: () => (probeAt === null ? 0 : probing ? baseMs : Math.max(0, probeAt - now())),
  };
};
