-- What an analyst or Grafana reads; docs/speed-view.md shows how. The first two count every record, versions of one pin too, as far back as
-- windows are kept; the others count the pins there are.
CREATE VIEW "pins_per_minute" AS
SELECT slide_start AS minute,
	coalesce(sum(pins) FILTER (WHERE field = ''), 0)::bigint AS pins,
	coalesce(sum(pins) FILTER (WHERE field = '*'), 0)::bigint AS errors
FROM "pin_error_windows"
GROUP BY slide_start;
--> statement-breakpoint
CREATE VIEW "error_rates" AS
SELECT wrong.slide_start AS minute, wrong.category, wrong.field, wrong.pins AS errors, total.pins,
	wrong.pins::float8 / total.pins AS rate
FROM "pin_error_windows" AS wrong
JOIN "pin_error_windows" AS total
	ON total.slide_start = wrong.slide_start AND total.category = wrong.category AND total.field = ''
WHERE wrong.field NOT IN ('', '*');
--> statement-breakpoint
CREATE VIEW "followers_by_category" AS
SELECT coalesce(category, '') AS category, count(*) AS pins, min(follower_count) AS least,
	percentile_cont(0.5) WITHIN GROUP (ORDER BY follower_count) AS median,
	percentile_cont(0.9) WITHIN GROUP (ORDER BY follower_count) AS p90, max(follower_count) AS most
FROM "pins"
WHERE follower_count IS NOT NULL
GROUP BY coalesce(category, '');
--> statement-breakpoint
CREATE VIEW "top_categories" AS
SELECT coalesce(category, '') AS category, count(*) AS pins, count(*) FILTER (WHERE is_error) AS errors,
	max(received_at) AS newest
FROM "pins"
GROUP BY coalesce(category, '')
ORDER BY pins DESC, category;
