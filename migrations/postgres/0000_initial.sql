CREATE TABLE "archive_object_stores" (
	"partition" integer NOT NULL,
	"first_offset" bigint NOT NULL,
	"store" text NOT NULL,
	"run_id" bigint NOT NULL,
	"status" text NOT NULL,
	"pins" integer NOT NULL,
	"errors" integer NOT NULL,
	"rejects" integer NOT NULL,
	"reason" text,
	"done_at" timestamp(6) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "archive_object_stores_partition_first_offset_store_pk" PRIMARY KEY("partition","first_offset","store")
);
--> statement-breakpoint
CREATE TABLE "archive_objects" (
	"partition" integer NOT NULL,
	"first_offset" bigint NOT NULL,
	"last_offset" bigint NOT NULL,
	"key" text NOT NULL,
	"pins" integer NOT NULL,
	"bytes" bigint NOT NULL,
	"seen_at" timestamp(6) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "archive_objects_partition_first_offset_pk" PRIMARY KEY("partition","first_offset"),
	CONSTRAINT "archive_objects_key_unique" UNIQUE("key")
);
--> statement-breakpoint
CREATE TABLE "batch_runs" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "batch_runs_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"reason" text NOT NULL,
	"status" text NOT NULL,
	"started_at" timestamp(6) with time zone DEFAULT now() NOT NULL,
	"ended_at" timestamp(6) with time zone,
	"objects" integer DEFAULT 0 NOT NULL,
	"pins" bigint DEFAULT 0 NOT NULL,
	"errors" bigint DEFAULT 0 NOT NULL,
	"rejects" bigint DEFAULT 0 NOT NULL,
	"bytes" bigint DEFAULT 0 NOT NULL,
	"error" text
);
--> statement-breakpoint
CREATE TABLE "leases" (
	"name" text PRIMARY KEY NOT NULL,
	"holder" text NOT NULL,
	"expires_at" timestamp(6) with time zone NOT NULL
);
--> statement-breakpoint
CREATE TABLE "pin_error_windows" (
	"slide_start" timestamp(6) with time zone NOT NULL,
	"category" text NOT NULL,
	"field" text NOT NULL,
	"pins" bigint NOT NULL,
	CONSTRAINT "pin_error_windows_slide_start_category_field_pk" PRIMARY KEY("slide_start","category","field")
);
--> statement-breakpoint
CREATE TABLE "pins" (
	"unique_id" uuid PRIMARY KEY NOT NULL,
	"received_at" timestamp(6) with time zone NOT NULL,
	"category" text,
	"index_no" integer NOT NULL,
	"title" text,
	"description" text,
	"follower_count" bigint,
	"tag_list" text[],
	"is_image_or_video" text,
	"image_src" text,
	"downloaded" integer NOT NULL,
	"save_location" text,
	"poster_name" text,
	"is_error" boolean NOT NULL,
	"error_fields" text[] NOT NULL,
	"write_ts" bigint NOT NULL,
	"log_partition" integer NOT NULL,
	"log_offset" bigint NOT NULL
);
--> statement-breakpoint
CREATE TABLE "stream_offsets" (
	"topic" text NOT NULL,
	"partition" integer NOT NULL,
	"next_offset" bigint NOT NULL,
	"updated_at" timestamp(6) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "stream_offsets_topic_partition_pk" PRIMARY KEY("topic","partition")
);
--> statement-breakpoint
CREATE INDEX "batch_runs_started_at" ON "batch_runs" USING btree ("started_at");--> statement-breakpoint
CREATE INDEX "pins_received_at" ON "pins" USING btree ("received_at");--> statement-breakpoint
CREATE INDEX "pins_errors" ON "pins" USING btree ("received_at") WHERE "pins"."is_error";