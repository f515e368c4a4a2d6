-- Symbols in which something live ended lately, and by which requests orders of ours may wait there still.

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
  foreach v_function in array array['public.ended_live_symbols(double precision)']::regprocedure[]
  loop
    execute format('revoke execute on function %s from public, anon, authenticated', v_function);
    execute format('grant execute on function %s to service_role', v_function);
  end loop;
end
$$;

notify pgrst, 'reload schema';
