import type { Sample, Status } from '../deps.ts';

export const sampleOf = (status: Status, at: number): Sample => ({
  at,
  pins: Object.fromEntries(status.stages.map(({ name, pins }) => [name, pins])),
  lag: Object.fromEntries(status.stages.map(({ name, lag }) => [name, lag])),
  rejected: status.totals.rejected,
  errors: status.totals.errors,
  durable: status.durableSeconds.counts,
  batches: status.microBatchPins.counts,
  fields: status.errorFields,
});
