const MEBI = 1024 * 1024;

/** Small, so that all of them are reached by cases of a few megabytes. */
export const LIMITS = {
  MAX_PIN_BYTES: 64 * 1024,
  MAX_BODY_BYTES: 2 * MEBI,
  MAX_BULK_PINS: 2000,
  MAX_PENDING_BYTES: 8 * MEBI,
  /** Slow bodies and stalls are told after this. */
  REQUEST_TIMEOUT_MS: 500,
};

/** What is sent at once to a server that takes MAX_PENDING_BYTES: ten times that. */
export const OVERLOAD_BYTES = 10 * LIMITS.MAX_PENDING_BYTES;

/**
 * The server's memory stays below this whatever is sent, bytes: about 150 MiB of Bun and this program, the bytes it may hold several
 * times over (as text, as records, in SQLite), and what a garbage collector leaves behind..
 */
export const MAX_RSS_BYTES = 400 * MEBI;
