CREATE TABLE "batch_alerts" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "batch_alerts_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"kind" text NOT NULL,
	"subject" text NOT NULL,
	"detail" text NOT NULL,
	"raised_at" timestamp(6) with time zone DEFAULT now() NOT NULL,
	"resolved_at" timestamp(6) with time zone
);
--> statement-breakpoint
CREATE TABLE "batch_generations" (
	"store" text PRIMARY KEY NOT NULL,
	"generation" integer NOT NULL,
	"completed" integer DEFAULT 0 NOT NULL,
	"started_at" timestamp(6) with time zone DEFAULT now() NOT NULL,
	"completed_at" timestamp(6) with time zone
);
--> statement-breakpoint
CREATE TABLE "batch_run_steps" (
	"run_id" bigint NOT NULL,
	"partition" integer NOT NULL,
	"first_offset" bigint NOT NULL,
	"store" text NOT NULL,
	"key" text NOT NULL,
	"status" text NOT NULL,
	"pins" integer NOT NULL,
	"errors" integer NOT NULL,
	"rejects" integer NOT NULL,
	"bytes" bigint NOT NULL,
	"ms" integer NOT NULL,
	"error" text,
	"ended_at" timestamp(6) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "batch_run_steps_run_id_store_partition_first_offset_pk" PRIMARY KEY("run_id","store","partition","first_offset")
);
--> statement-breakpoint
CREATE TABLE "batch_schedules" (
	"name" text PRIMARY KEY NOT NULL,
	"paused" boolean NOT NULL,
	"changed_at" timestamp(6) with time zone DEFAULT now() NOT NULL,
	"changed_by" text NOT NULL
);
--> statement-breakpoint
ALTER TABLE "archive_object_stores" ADD COLUMN "generation" integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "batch_runs" ADD COLUMN "attempt" integer DEFAULT 1 NOT NULL;--> statement-breakpoint
ALTER TABLE "batch_runs" ADD COLUMN "window_from" timestamp(6) with time zone;--> statement-breakpoint
ALTER TABLE "batch_runs" ADD COLUMN "window_to" timestamp(6) with time zone;--> statement-breakpoint
ALTER TABLE "batch_runs" ADD COLUMN "holder" text;--> statement-breakpoint
ALTER TABLE "batch_runs" ADD COLUMN "quality" jsonb;--> statement-breakpoint
ALTER TABLE "batch_run_steps" ADD CONSTRAINT "batch_run_steps_run_id_batch_runs_id_fk" FOREIGN KEY ("run_id") REFERENCES "public"."batch_runs"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE UNIQUE INDEX "batch_alerts_open" ON "batch_alerts" USING btree ("kind","subject") WHERE "batch_alerts"."resolved_at" is null;--> statement-breakpoint
CREATE INDEX "batch_runs_window_to" ON "batch_runs" USING btree ("window_to") WHERE "batch_runs"."reason" in ('cron', 'retry', 'catch-up');