-- Funding is looked for until it is surely shown, however long nobody looked: what has ended is left out only once payments have
-- been read up to eight hours of the venue's time after its end, as a payment may be shown so late.

-- Until when (in the venue's time) payments of what has ended in a symbol on paper are known.
create table if not exists public.paper_funding_reads (
  user_id uuid not null references auth.users (id) on delete cascade,
  exchange text not null,
  symbol text not null,
  read_ms bigint not null,
  updated_at timestamptz not null default clock_timestamp(),
  primary key (user_id, exchange, symbol)
);
alter table public.paper_funding_reads enable row level security;
revoke all on public.paper_funding_reads from public, anon, authenticated;
grant select, insert, update, delete on public.paper_funding_reads to service_role;
drop policy if exists sparky_service on public.paper_funding_reads;
create policy sparky_service on public.paper_funding_reads to service_role using (true) with check (true);

create index if not exists fills_exits_idx on public.fills
  (is_paper, user_id, exchange, symbol, (public.market_ms(market_time_ms, created_at))) where kind <> 'open';

-- What ended more than twelve hours before this release was given up by the release before.
insert into public.funding_reads (user_id, exchange, read_ms)
  select f.user_id, f.exchange, max(public.market_ms(f.market_time_ms, f.created_at)) + 8 * 3600000
  from public.fills f
  where f.kind <> 'open' and not f.is_paper and f.created_at < clock_timestamp() - interval '12 hours'
  group by f.user_id, f.exchange
  on conflict (user_id, exchange) do nothing;
insert into public.paper_funding_reads (user_id, exchange, symbol, read_ms)
  select f.user_id, f.exchange, f.symbol, max(public.market_ms(f.market_time_ms, f.created_at)) + 8 * 3600000
  from public.fills f
  where f.kind <> 'open' and f.is_paper and f.created_at < clock_timestamp() - interval '12 hours'
  group by f.user_id, f.exchange, f.symbol
  on conflict (user_id, exchange, symbol) do nothing;

create or replace function public.note_paper_funding_read(
  p_user_id uuid, p_exchange text, p_symbol text, p_read_ms bigint
) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
  insert into public.paper_funding_reads as r (user_id, exchange, symbol, read_ms)
    values (p_user_id, p_exchange, p_symbol, p_read_ms)
    on conflict (user_id, exchange, symbol) do update
      set read_ms = greatest(r.read_ms, excluded.read_ms), updated_at = clock_timestamp();
  return to_jsonb(true);
end
$$;

-- Positions of which a payment may be unknown though they have ended: within so many seconds, or since payments were read. The
-- books (person, exchange, symbol) are walked by the index, one step each.
create or replace function public.ended_with_funding(p_within_s double precision) returns setof uuid
language sql stable set search_path = '' as $$
  with recursive books as (
    (
      select f.is_paper, f.user_id, f.exchange, f.symbol from public.fills f where f.kind <> 'open'
      order by f.is_paper, f.user_id, f.exchange, f.symbol limit 1
    )
    union all
    select n.is_paper, n.user_id, n.exchange, n.symbol
    from books b
    cross join lateral (
      select f.is_paper, f.user_id, f.exchange, f.symbol from public.fills f
      where f.kind <> 'open' and (f.is_paper, f.user_id, f.exchange, f.symbol) > (b.is_paper, b.user_id, b.exchange, b.symbol)
      order by f.is_paper, f.user_id, f.exchange, f.symbol limit 1
    ) n
  ), known as (
    select b.*, coalesce(case when b.is_paper then p.read_ms else r.read_ms end, 0) as read_ms
    from books b
    left join public.funding_reads r on r.user_id = b.user_id and r.exchange = b.exchange
    left join public.paper_funding_reads p on p.user_id = b.user_id and p.exchange = b.exchange and p.symbol = b.symbol
  )
  select f.position_id from public.fills f
  where f.created_at > clock_timestamp() - make_interval(secs => p_within_s) and f.kind <> 'open' and f.position_id is not null
  union
  select f.position_id
  from known k
  join public.fills f on f.is_paper = k.is_paper and f.user_id = k.user_id and f.exchange = k.exchange and f.symbol = k.symbol
  where f.kind <> 'open' and f.position_id is not null
    and public.market_ms(f.market_time_ms, f.created_at) > k.read_ms - 8 * 3600000
$$;

-- Symbols in which something is held, or has ended and may have payments that are not known: since when, until when funding is
-- known (0: never), and when the last of it ended (0: nothing has). Known is live how far the account's income was read, on paper
-- the oldest of the newest payments of what is held.
create or replace function public.funding_places(p_within_s double precision) returns jsonb
language sql stable security definer set search_path = '' as $$
  with held as (
    select p.id, p.user_id, lower(p.exchange) as exchange, p.symbol, p.is_paper, true as is_held,
      public.market_ms(p.entry_market_time_ms, coalesce(p.entry_time, p.created_at)) as first_ms, 0::bigint as last_ms
    from public.positions p
    union all
    select f.position_id, f.user_id, f.exchange, f.symbol, f.is_paper, false,
      min(public.market_ms(f.market_time_ms, f.created_at)), max(public.market_ms(f.market_time_ms, f.created_at))
    from public.fills f where f.position_id in (select public.ended_with_funding(p_within_s))
    group by f.position_id, f.user_id, f.exchange, f.symbol, f.is_paper
  )
  select coalesce(jsonb_agg(to_jsonb(a)), '[]') from (
    select h.user_id, h.exchange, h.symbol, h.is_paper, bool_or(h.is_held) as is_held, min(h.first_ms) as first_ms,
      max(h.last_ms) as last_ms,
      case when h.is_paper then coalesce(min(greatest(h.first_ms, paid.at_ms)), 0) else coalesce(min(r.read_ms), 0) end as read_ms
    from held h
    left join lateral (
      select max(y.at_ms) as at_ms from public.funding_payments y
      where h.is_paper and y.user_id = h.user_id and y.exchange = h.exchange and y.symbol = h.symbol and y.is_paper
        and y.position_id = h.id
    ) paid on true
    left join public.funding_reads r on not h.is_paper and r.user_id = h.user_id and r.exchange = h.exchange
    group by h.user_id, h.exchange, h.symbol, h.is_paper
    order by h.user_id, h.exchange, h.symbol, h.is_paper
  ) a
$$;

do $$
declare
  v_function regprocedure;
begin
  foreach v_function in array array[
    'public.note_paper_funding_read(uuid, text, text, bigint)', 'public.ended_with_funding(double precision)',
    'public.funding_places(double precision)'
  ]::regprocedure[]
  loop
    execute format('revoke execute on function %s from public, anon, authenticated', v_function);
    execute format('grant execute on function %s to service_role', v_function);
  end loop;
end
$$;

notify pgrst, 'reload schema';
