-- One row per request that a sender made, unique by the sender's own id: the memory that gives a repeated signal its first answer.
-- status: received, submitted, filled (something may be at the venue), then booked, refused, failed or skipped.

create table if not exists public.webhook_requests (
  id uuid primary key default gen_random_uuid(),
  user_id uuid references auth.users (id) on delete cascade,
  exchange text,
  action text,
  symbol text,
  strategy_id uuid,
  payload jsonb,
  status text,
  error_message text,
  processed_at timestamptz
);

alter table public.webhook_requests
  add column if not exists request_id text,
  add column if not exists fingerprint text,
  add column if not exists answer_status integer,
  add column if not exists answer jsonb,
  add column if not exists attempts integer not null default 1,
  add column if not exists failures integer not null default 0,
  add column if not exists failed_at timestamptz,
  add column if not exists created_at timestamptz not null default now();

-- Rows of the original system have no request_id; nulls are distinct, so they do not collide.
create unique index if not exists webhook_requests_request_key on public.webhook_requests (user_id, request_id);
create index if not exists webhook_requests_unfinished_idx on public.webhook_requests (created_at)
  where status in ('received', 'submitted', 'filled');
create index if not exists webhook_requests_failed_idx on public.webhook_requests (user_id, exchange, failed_at desc)
  where failed_at is not null;
create index if not exists webhook_requests_booked_idx on public.webhook_requests (user_id, exchange, processed_at desc)
  where status = 'booked';
