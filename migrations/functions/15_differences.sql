-- Differences between the books and what the venues hold, and what is held outside Sparky.

-- Compares the books with `p_nets` ({symbol: net quantity at the venue}) and keeps the differences; those that are open. What
-- a
-- person holds outside Sparky does not count. `p_reasons` ({symbol: text}) says why no rule explained one.
-- A symbol that is being traded this moment is left for the next time: one of `p_checked` ({symbol: id of its newest fill})
-- when
-- anything was booked after that fill, any other when anything was booked since 10 s before the venue was asked, `p_age_s`
-- ago.
-- Nothing in the books is changed.
create or replace function public.report_reconciliation(
  p_user_id uuid, p_exchange text, p_nets jsonb, p_reasons jsonb default '{}', p_checked jsonb default '{}',
  p_age_s double precision default 0
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_now timestamptz := clock_timestamp();
  v_row record;
begin
  for v_row in
    select s.symbol, coalesce(b.net, 0) as booked,
      coalesce((p_nets ->> s.symbol)::numeric, 0) - public.outside_quantity(p_user_id, p_exchange, s.symbol) as at_venue
    from (
      select p.symbol from public.positions p
        where p.user_id = p_user_id and lower(p.exchange) = p_exchange and not p.is_paper
      union
      select jsonb_object_keys(p_nets)
      union
      select d.symbol from public.reconciliation_differences d
        where d.user_id = p_user_id and d.exchange = p_exchange and d.resolved_at is null
      union
      select r.symbol from public.venue_records r where r.user_id = p_user_id and r.exchange = p_exchange
    ) s
    left join (
      select p.symbol, sum(p.quantity * case public.position_side(p.side) when 'LONG' then 1 else -1 end) as net
      from public.positions p where p.user_id = p_user_id and lower(p.exchange) = p_exchange and not p.is_paper group by p.symbol
    ) b on b.symbol = s.symbol
  loop
    continue when exists (
      select from public.webhook_requests r
      where r.user_id = p_user_id and r.exchange = p_exchange and r.symbol = v_row.symbol and r.status in ('submitted', 'filled')
    ) or exists (
      select from public.fills f
      where f.user_id = p_user_id and f.exchange = p_exchange and f.symbol = v_row.symbol and not f.is_paper
        and f.id > coalesce((p_checked ->> v_row.symbol)::bigint, (select max(g.id) - 1000 from public.fills g))
        and (p_checked ? v_row.symbol or f.created_at > v_now - make_interval(secs => 10 + p_age_s))
    );
    if v_row.booked = v_row.at_venue then
      update public.reconciliation_differences d set resolved_at = v_now
        where d.user_id = p_user_id and d.exchange = p_exchange and d.symbol = v_row.symbol and d.resolved_at is null;
      if v_row.at_venue = 0 and not exists (
        select from public.positions p
        where p.user_id = p_user_id and lower(p.exchange) = p_exchange and p.symbol = v_row.symbol and not p.is_paper
      ) and not exists (
        select from public.fills f join public.trades t on t.id = f.trade_id
        where f.user_id = p_user_id and f.exchange = p_exchange and f.symbol = v_row.symbol and not f.is_paper
          and f.created_at > v_now - interval '15 minutes' and t.exit_reason = 'liquidated'
      ) then -- nothing is left that a later reading would have to go on from
        delete from public.venue_records r
          where r.user_id = p_user_id and r.exchange = p_exchange and r.symbol = v_row.symbol;
      end if;
    else
      insert into public.reconciliation_differences as d (user_id, exchange, symbol, booked, at_venue, reason)
        values (p_user_id, p_exchange, v_row.symbol, v_row.booked, v_row.at_venue, left(p_reasons ->> v_row.symbol, 500))
        on conflict (user_id, exchange, symbol) where resolved_at is null
        do update set booked = excluded.booked, at_venue = excluded.at_venue, last_seen_at = v_now,
          reason = coalesce(excluded.reason, d.reason);
    end if;
  end loop;
  return coalesce((
    select jsonb_agg(to_jsonb(d) order by d.symbol) from public.reconciliation_differences d
    where d.user_id = p_user_id and d.exchange = p_exchange and d.resolved_at is null
  ), '[]');
end
$$;

-- Every difference that is open, oldest first, with what the books hold there.
create or replace function public.open_differences() returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(d) || jsonb_build_object(
    'email', u.email, 'outside', public.outside_quantity(d.user_id, d.exchange, d.symbol),
    'held', public.live_positions(d.user_id, d.exchange, d.symbol)
  ) order by d.first_seen_at, d.id), '[]')
  from public.reconciliation_differences d left join auth.users u on u.id = d.user_id
  where d.resolved_at is null
$$;

-- When a difference was last seen or resolved; null when there never was one.
create or replace function public.last_difference_at() returns jsonb
language sql stable security definer set search_path = '' as $$
  select to_jsonb(max(coalesce(d.resolved_at, d.last_seen_at))) from public.reconciliation_differences d
$$;

-- Ends the open difference of a symbol.
create or replace function public.resolve_difference(p_user_id uuid, p_exchange text, p_symbol text) returns void
language sql set search_path = '' as $$
  update public.reconciliation_differences d set resolved_at = clock_timestamp()
    where d.user_id = p_user_id and d.exchange = lower(p_exchange) and d.symbol = p_symbol and d.resolved_at is null
$$;

-- What is noted as held outside Sparky in a symbol, negative when short; 0 when nothing is.
create or replace function public.outside_quantity(p_user_id uuid, p_exchange text, p_symbol text) returns numeric
language sql stable security definer set search_path = '' as $$
  select coalesce((
    select o.quantity from public.outside_holdings o
    where o.user_id = p_user_id and o.exchange = lower(p_exchange) and o.symbol = p_symbol
  ), 0)
$$;

-- All that is noted as held outside Sparky, oldest first.
create or replace function public.list_outside_holdings() returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(o) || jsonb_build_object('email', u.email) order by o.noted_at, o.symbol), '[]')
  from public.outside_holdings o left join auth.users u on u.id = o.user_id
$$;

-- What is noted of dust changes by p_change, towards 0: others have traded it at the venue. False where less is noted.
create or replace function public.reduce_outside_dust(
  p_user_id uuid, p_exchange text, p_symbol text, p_change numeric
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_note public.outside_holdings;
begin
  select * into v_note from public.outside_holdings o
    where o.user_id = p_user_id and o.exchange = p_exchange and o.symbol = p_symbol for update;
  if v_note.dust is null or v_note.dust * p_change >= 0 or abs(p_change) > least(abs(v_note.dust), abs(v_note.quantity)) then
    return to_jsonb(false);
  elsif v_note.quantity + p_change = 0 then
    delete from public.outside_holdings o
      where o.user_id = p_user_id and o.exchange = p_exchange and o.symbol = p_symbol;
  else
    update public.outside_holdings o set quantity = o.quantity + p_change, dust = o.dust + p_change
      where o.user_id = p_user_id and o.exchange = p_exchange and o.symbol = p_symbol;
  end if;
  return to_jsonb(true);
end
$$;

-- What the venue held of a symbol that it lists no more, it has settled: nothing of it is held outside Sparky either.
create or replace function public.delete_outside_holding(p_user_id uuid, p_exchange text, p_symbol text) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
  delete from public.outside_holdings o
    where o.user_id = p_user_id and o.exchange = p_exchange and o.symbol = p_symbol;
  update public.venue_records r set outside_net = 0, updated_at = clock_timestamp()
    where r.user_id = p_user_id and r.exchange = p_exchange and r.symbol = p_symbol;
  return to_jsonb(true);
end
$$;

revoke execute on function
  public.report_reconciliation, public.open_differences, public.last_difference_at, public.resolve_difference,
  public.outside_quantity, public.list_outside_holdings, public.reduce_outside_dust, public.delete_outside_holding
  from public, anon, authenticated;
grant execute on function
  public.report_reconciliation, public.open_differences, public.last_difference_at, public.resolve_difference,
  public.outside_quantity, public.list_outside_holdings, public.reduce_outside_dust, public.delete_outside_holding
  to service_role;
