-- What a server needs to finish what another one began: fills of a request, sides that others hold; and symbols in which something
-- live ended lately, with the requests by which orders of ours may wait there still.

create or replace function public.request_fills(p_request_id text, p_user_id uuid) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(f) order by f.id), '[]') from public.fills f
  where f.user_id = p_user_id and f.request_id = p_request_id
$$;

-- The sides that others than this strategy (or person) hold, or may be about to hold, live in the symbol; what the person holds
-- outside Sparky is one of them.
create or replace function public.other_sides(
  p_user_id uuid, p_exchange text, p_symbol text, p_strategy_id uuid
) returns jsonb
language sql stable security definer set search_path = '' as $$
  with sides as (
    select public.position_side(p.side) as side from public.positions p
    where p.user_id = p_user_id and lower(p.exchange) = p_exchange and p.symbol = p_symbol and not p.is_paper
      and p.strategy_id is distinct from p_strategy_id
    union all
    select both_sides.side from public.ai_strategies s cross join (values ('LONG'), ('SHORT')) as both_sides (side)
    where s.user_id = p_user_id and s.exchange = p_exchange and not s.is_paper_trading and s.status = 'running'
      and p_symbol = any (s.target_assets) and s.id is distinct from p_strategy_id
    union all
    select both_sides.side from public.webhook_requests r cross join (values ('LONG'), ('SHORT')) as both_sides (side)
    where r.user_id = p_user_id and r.exchange = p_exchange and r.symbol = p_symbol
      and r.strategy_id is distinct from p_strategy_id and r.status in ('submitted', 'filled')
    union all
    select case when o.net > 0 then 'LONG' else 'SHORT' end
    from (select public.outside_net(p_user_id, p_exchange, p_symbol) as net) o where o.net <> 0
  )
  select coalesce(jsonb_agg(distinct sides.side), '[]') from sides
$$;

create or replace function public.ended_live_symbols(p_within_s double precision) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object(
    'user_id', e.user_id, 'exchange', e.exchange, 'symbol', e.symbol, 'last_exit', e.last_exit,
    'request_ids', coalesce((
      select jsonb_agg(r.request_id) from (
        select w.request_id from public.webhook_requests w
        where w.user_id = e.user_id and w.exchange = e.exchange and w.symbol = e.symbol and w.action <> 'CLOSE'
          and w.request_id is not null
        order by w.created_at desc limit 2000
      ) r
    ), '[]')
  ) order by e.last_exit), '[]')
  from (
    select t.user_id, lower(t.exchange) as exchange, t.symbol, max(t.exit_time) as last_exit
    from public.trades t
    where not t.is_paper and t.exit_time > clock_timestamp() - make_interval(secs => p_within_s)
    group by t.user_id, lower(t.exchange), t.symbol
  ) e
$$;

do $$
declare
  v_function regprocedure;
begin
  foreach v_function in array array[
    'public.ended_live_symbols(double precision)', 'public.request_fills(text, uuid)',
    'public.other_sides(uuid, text, text, uuid)'
  ]::regprocedure[]
  loop
    execute format('revoke execute on function %s from public, anon, authenticated', v_function);
    execute format('grant execute on function %s to service_role', v_function);
  end loop;
end
$$;

notify pgrst, 'reload schema';
