-- Windows of two minutes, one starting every minute: a pin counts in the slide it was received in, and a slide in the
-- window that starts with it and in the one that started a slide earlier.
CREATE VIEW "pin_error_windows_sliding" AS
SELECT window_start, window_start + interval '2 minutes' AS window_end, category, field, sum(pins)::bigint AS pins
FROM (
	SELECT slide_start - slides * interval '1 minute' AS window_start, category, field, pins
	FROM "pin_error_windows" CROSS JOIN generate_series(0, 1) AS slides
) AS placed
GROUP BY window_start, category, field;
--> statement-breakpoint
COMMENT ON VIEW "pin_error_windows_sliding" IS
	'Pins by window of 2 minutes every 1 minute, category and field: field '''' counts all, ''*'' the erroneous, else the errors of that field';
