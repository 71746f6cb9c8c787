CREATE TABLE "speed_removals" (
	"table" text PRIMARY KEY NOT NULL,
	"before" timestamp(6) with time zone NOT NULL,
	"rows" bigint DEFAULT 0 NOT NULL,
	"removed_at" timestamp(6) with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
ALTER TABLE "stream_offsets" ADD COLUMN "watermark" timestamp(6) with time zone;--> statement-breakpoint
ALTER TABLE "stream_offsets" ADD COLUMN "late_pins" bigint DEFAULT 0 NOT NULL;