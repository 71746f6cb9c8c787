import type { PinRow } from '../db/pin-store/pin-store.ts';
import { PinflowError } from '../errors.ts';
import { isUuid } from '../pin/pin.ts';
import { formatMicros } from '../pin/timestamp.ts';
import type { EdgeDeps, Journey, View } from './deps.ts';
import { errorResponse, JSON_HEADERS } from './error-response.ts';

/** A count as JSON: a number with all its digits, which a reader with 64-bit integers reads exactly. */
const digits = (count: bigint | null): unknown =>
  count === null ? null : (JSON as unknown as { rawJSON: (text: string) => unknown }).rawJSON(String(count));

const rowJson = (row: PinRow) => ({
  received_at: formatMicros(row.receivedAtMicros),
  position: `${row.position.partition}/${row.position.offset}`,
  is_error: row.isError,
  error_fields: row.errorFields,
  pin: {
    category: row.category,
    index: row.indexNo,
    unique_id: row.uniqueId,
    title: row.title,
    description: row.description,
    follower_count: digits(row.followerCount),
    tag_list: row.tagList,
    is_image_or_video: row.isImageOrVideo,
    image_src: row.imageSrc,
    downloaded: row.downloaded,
    save_location: row.saveLocation,
    ...(row.posterName === null ? {} : { poster_name: row.posterName }),
  },
});

const viewJson = <T>(view: View<T>, json: (row: T) => object) =>
  view.state === 'present' ? { state: view.state, ...json(view.row) } : view;

const journeyJson = ({ uniqueId, log, speed, batch, archive }: Journey) => ({
  unique_id: uniqueId,
  log: viewJson(log, ({ partition, offset }) => ({ position: `${partition}/${offset}` })),
  speed_view: viewJson(speed, rowJson),
  batch_views: batch.map(({ store, view }) => ({ store, ...viewJson(view, rowJson) })),
  archive: viewJson(archive, (a) => ({ key: a.key, offsets: `${a.partition}/${a.firstOffset}-${a.lastOffset}` })),
});

/** A view that could not be asked may hold the pin: that is no "not found". */
const absent = ({ uniqueId, speed, batch }: Journey): Response => {
  const views = [{ store: 'the speed view', view: speed }, ...batch];
  const silent = views.flatMap(({ store, view }) =>
    view.state === 'unavailable' ? [`${store} (${view.reason})`] : [],
  );
  return silent.length === 0
    ? errorResponse(
        'not_found',
        `no view has pin ${uniqueId}; one that was just accepted shows up here once a worker has handled it`,
      )
    : errorResponse(
        speed.state === 'unavailable' ? 'postgres_unavailable' : 'pin_store_unavailable',
        `pin ${uniqueId} is in none of the views that answer, and these do not: ${silent.join(', ')}`,
      );
};

/** `GET /pins/:unique_id`: where one pin stands, 404 when no view has it. */
export const createGetPin =
  (deps: Pick<EdgeDeps, 'journey'>) =>
  async (id: string): Promise<Response> => {
    if (!isUuid(id)) throw new PinflowError('invalid_pin', `${JSON.stringify(id.slice(0, 100))} is not a UUID`);
    const journey = await deps.journey(id.toLowerCase());
    const present = [journey.log, journey.speed, ...journey.batch.map((b) => b.view)].some(
      (view) => view.state === 'present',
    );
    return present
      ? new Response(JSON.stringify(journeyJson(journey), null, 2), { headers: JSON_HEADERS })
      : absent(journey);
  };
