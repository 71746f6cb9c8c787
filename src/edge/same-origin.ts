import { PinflowError } from '../errors.ts';

/** For browsers that do not say where a request comes from; programs send no Origin. */
const hasForeignOrigin = (headers: Headers): boolean => {
  const origin = headers.get('origin');
  return origin !== null && (!URL.canParse(origin) || new URL(origin).host !== headers.get('host'));
};

/**
 * A page of another site may not make a browser act here with the credentials it keeps. The content type of a JSON body already
 * makes browsers ask first, and no answer lets them; this holds also for a browser that does not.
 * @throws PinflowError `forbidden`
 */
export const requireSameOrigin = (request: Request): void => {
  const site = request.headers.get('sec-fetch-site');
  const foreign = site === null ? hasForeignOrigin(request.headers) : site !== 'same-origin' && site !== 'none';
  if (foreign) throw new PinflowError('forbidden', 'this is for the dashboard of this server, not for pages of others');
};
