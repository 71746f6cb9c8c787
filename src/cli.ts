import { Command, InvalidArgumentError, Option } from 'commander';
import packageJson from '../package.json' with { type: 'json' };
import { messageOf, PinflowError } from './errors.ts';

/**
 * Each command is loaded when it is called, so that none pays for the engines of the others.
 *
 * The composition root: what the scripts of package.json call. A command answers with its exit code: 0 means that what was
 * asked is true. One JSON value on stdout with `--format json`, and nothing else there; messages go to stderr.
 */
const wholeNumber = (text: string): number => {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0)
    throw new InvalidArgumentError('It should be a whole number, 0 or more.');
  return value;
};

const positiveNumber = (text: string): number => {
  const value = Number(text);
  if (!Number.isFinite(value) || value <= 0) throw new InvalidArgumentError('It should be a number above 0.');
  return value;
};

const share = (text: string): number => {
  const value = Number(text);
  if (!Number.isFinite(value) || value < 0 || value > 1) throw new InvalidArgumentError('It should be from 0 to 1.');
  return value;
};

const format = () =>
  new Option('--format <format>', 'how to print the answer').choices(['table', 'json', 'csv']).default('table');

const finish = async (run: Promise<number>): Promise<void> => {
  process.exitCode = await run;
};

const program = new Command('pinflow')
  .description(packageJson.description)
  .version(packageJson.version)
  .showHelpAfterError()
  .addHelpText('after', '\nSettings are environment variables: see docs/configuration.md.');

program
  .command('up')
  .description('start everything in this process: edge, workers, and an embedded part for each engine that is not set')
  .option('--emulate <rate>', 'also post this many pins a second', positiveNumber)
  .action((options) => finish(import('./commands/up.ts').then((m) => m.up({ edge: true, work: true }, options))));

program
  .command('edge')
  .description('start the edge only (with KAFKA_BROKERS: as many as wanted, on any machine)')
  .action(() => finish(import('./commands/up.ts').then((m) => m.up({ edge: true, work: false }, {}))));

program
  .command('work')
  .description('start the workers only; WORKERS_* say how many of each')
  .action(() => finish(import('./commands/up.ts').then((m) => m.up({ edge: false, work: true }, {}))));

program
  .command('emulate')
  .description('post realistic pins, at random gaps of up to a second unless --rate is given')
  .option('--url <url>', 'where the edge is')
  .option('--rate <pins>', 'pins a second', positiveNumber)
  .option('--count <pins>', 'stop after so many (default: endless)', wholeNumber)
  .option('--batch <pins>', 'pins in one request; above 1 they go to POST /pins', wholeNumber, 1)
  .option('--error-rate <share>', 'share of pins with placeholders, 0 to 1', share)
  .option('--seed <number>', 'same seed, same pins', wholeNumber)
  .option('--from <source>', 'FILE.ndjson, FILE.csv, or mysql://…?table=NAME or postgres://…?table=NAME')
  .option('--api-key <key>', 'sent as `Authorization: Bearer`')
  .addOption(format())
  .action((options) => finish(import('./commands/emulate.ts').then((m) => m.runEmulator(options))));

program
  .command('query')
  .description('ask the batch view in SQL: Trino if TRINO_URL is set, else the embedded store')
  .argument('<sql>', 'one statement that only reads')
  .option('--limit <rows>', 'most rows', wholeNumber, 1000)
  .addOption(format())
  .action((sql, options) => finish(import('./commands/query.ts').then((m) => m.query(sql, options))));

program
  .command('clean')
  .description('one batch run now; with --from and --to a backfill, with --rebuild all of it anew')
  .option('--from <day>', 'first day (2026-11-01) or hour (2026-11-01T18) of a backfill, UTC')
  .option('--to <day>', 'last day or hour of it')
  .option('--store <name>', 'only this pin store: scylla, cassandra or embedded')
  .option('--dry-run', 'read and clean the days, write nothing, say what would be done')
  .option('--rebuild', 'every row from the archive anew, then remove what is in no object; readers see no gap')
  .addOption(format())
  .action((options) => finish(import('./commands/clean.ts').then((m) => m.clean(options))));

const limit = (fallback: number) => new Option('--limit <rows>', 'how many').argParser(wholeNumber).default(fallback);
const runs = program.command('runs').description('the batch runs: what they did, what is late, pause and resume');
runs
  .command('list', { isDefault: true })
  .description('the newest runs')
  .addOption(limit(20))
  .addOption(format())
  .action((options) => finish(import('./commands/runs.ts').then((m) => m.runs(options))));
runs
  .command('show')
  .description('one run: each object and store, and what cleaning met')
  .argument('<id>', 'of the run', wholeNumber)
  .addOption(limit(1000))
  .addOption(format())
  .action((id, options) => finish(import('./commands/runs.ts').then((m) => m.showRun(id, options))));
runs
  .command('alerts')
  .description('what is late or was: missed and long runs, objects that wait')
  .addOption(limit(20))
  .addOption(format())
  .action((options) => finish(import('./commands/runs.ts').then((m) => m.showAlerts(options))));
runs
  .command('pause')
  .description('no run begins by itself any more, in any process')
  .action(() => finish(import('./commands/runs.ts').then((m) => m.pauseRuns(true))));
runs
  .command('resume')
  .description('runs begin by themselves again')
  .action(() => finish(import('./commands/runs.ts').then((m) => m.pauseRuns(false))));

const dlq = program.command('dlq').description('the dead letter queue: what could not be handled, and why');
dlq
  .command('list', { isDefault: true })
  .description('letters nobody has dealt with, oldest first')
  .option('--limit <letters>', 'how many', wholeNumber, 50)
  .addOption(format())
  .action((options) => finish(import('./commands/dlq.ts').then((m) => m.listLetters(options))));
dlq
  .command('show')
  .description('one letter whole, as JSON')
  .argument('<id>')
  .action((id) => finish(import('./commands/dlq.ts').then((m) => m.showLetter(id))));
dlq
  .command('retry')
  .description('send letters again: records to the log, objects to the next batch run')
  .argument('[ids...]')
  .option('--all', 'every open letter')
  .option('--with <file>', 'send the text of this file in place of the record (one id only)')
  .action((ids, options) => finish(import('./commands/dlq.ts').then((m) => m.retry(ids, options))));
dlq
  .command('drop')
  .description('mark letters as dealt with')
  .argument('[ids...]')
  .option('--all', 'every open letter')
  .action((ids, options) => finish(import('./commands/dlq.ts').then((m) => m.drop(ids, options))));

program
  .command('migrate')
  .description('bring the tables of Postgres and of the pin stores up to this version')
  .action(() => finish(import('./commands/migrate.ts').then((m) => m.migrate())));

program
  .command('stack')
  .description('the whole stack of real servers by compose.yaml (needs a container engine)')
  .option('--core', 'without Trino and monitoring')
  .action((options) => finish(import('./commands/stack.ts').then((m) => m.stack(options))));

program
  .command('doctor')
  .description('check the settings and reach every engine')
  .addOption(format())
  .action((options) => finish(import('./commands/doctor.ts').then((m) => m.doctor(options))));

program
  .command('reconcile')
  .description('compare the ids in the log, the archive and every view; exit 1 when they differ')
  .option('--wait <seconds>', 'ask again until they are equal, at most so long', wholeNumber, 0)
  .addOption(format())
  .action((options) => finish(import('./commands/reconcile.ts').then((m) => m.reconcileNow(options))));

program
  .command('chaos')
  .description(
    'injure the running program while pins flow, and count what is lost; on embedded parts, or the servers that are set',
  )
  .option('--pins <pins>', 'how many to post', wholeNumber, 50_000)
  .option('--seconds <seconds>', 'over how long', positiveNumber, 60)
  .option('--seed <number>', 'same seed, same pins and same order of faults', wholeNumber, 1)
  .option('--out <file>', 'also write the report to this Markdown file')
  .addOption(format())
  .action((options) => finish(import('./commands/chaos.ts').then((m) => m.chaos(options))));

try {
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`${error instanceof PinflowError ? `pinflow: ${messageOf(error)}` : (error as Error).stack}\n`);
  process.exitCode = 1;
}
// Sockets of drivers that were told to close may linger; the work is done. Writing stdout first: it may be a pipe.
if (process.exitCode !== undefined) process.stdout.write('', () => process.exit());
