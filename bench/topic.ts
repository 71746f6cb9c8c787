import { risingMicros, systemClock } from '../src/clock.ts';
import type { Config } from '../src/config.ts';
import { generatePins } from '../src/emulator/generate.ts';
import { openLog } from '../src/log/open.ts';
import { createLogger } from '../src/logger.ts';
import { acceptPin } from '../src/pin/decode.ts';
import { testServer } from '../test/servers/servers.ts';

/** Records of one append: what the log takes best. */
const LOAD_PINS = 5000;

/** Settings of a test server. @throws why there is none */
export const serverSettings = async (name: Parameters<typeof testServer>[0]): Promise<Record<string, string>> => {
  const found = await testServer(name);
  if ('skip' in found) throw new Error(found.skip);
  return found.settings as Record<string, string>;
};

/** Appends so many generated pins to the log as the edge does, stamp and all. */
export const fillLog = async (config: Config, pins: number): Promise<void> => {
  const log = await openLog(config, { logger: createLogger('warn', 'bench') });
  const [source, encoder, stamp] = [generatePins({ seed: 5 }), new TextEncoder(), risingMicros(systemClock)];
  const next = () => {
    const accepted = acceptPin(encoder.encode(JSON.stringify(source.next().value)), stamp());
    if (!accepted.ok) throw new Error('the edge would refuse a generated pin');
    return { key: accepted.value.uniqueId, value: accepted.value.line };
  };
  for (let done = 0; done < pins; done += LOAD_PINS) {
    await log.append(Array.from({ length: Math.min(LOAD_PINS, pins - done) }, next));
  }
  await log.close();
};
