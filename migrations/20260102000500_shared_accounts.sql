-- A venue knows only an account's net position, so a reduce-only order is cut when another strategy stands against it.
-- What others hold is not enough to know: an order of theirs may have filled and not be booked yet, or fill before ours
-- arrives. So whoever may trade the symbol on the same account counts as holding both sides.

create or replace function public.other_sides(
  p_user_id uuid, p_exchange text, p_symbol text, p_strategy_id uuid
) returns jsonb
language sql stable security definer set search_path = '' as $$
  with sides as (
    select public.position_side(p.side) as side from public.positions p
    where p.user_id = p_user_id and p.exchange = p_exchange and p.symbol = p_symbol and not p.is_paper
      and p.strategy_id is distinct from p_strategy_id
    union all
    select both_sides.side from public.ai_strategies s cross join (values ('LONG'), ('SHORT')) as both_sides (side)
    where s.user_id = p_user_id and s.exchange = p_exchange and not s.is_paper_trading and s.status = 'running'
      and p_symbol = any (s.target_assets) and s.id is distinct from p_strategy_id
    union all
    select both_sides.side from public.webhook_requests r cross join (values ('LONG'), ('SHORT')) as both_sides (side)
    where r.user_id = p_user_id and r.exchange = p_exchange and r.symbol = p_symbol
      and r.strategy_id is distinct from p_strategy_id and r.status in ('submitted', 'filled')
  )
  select coalesce(jsonb_agg(distinct sides.side), '[]') from sides
$$;

revoke execute on function public.other_sides(uuid, text, text, uuid) from public, anon, authenticated;
grant execute on function public.other_sides(uuid, text, text, uuid) to service_role;

create or replace function public.begin_execution(
  p_server text, p_request_id text, p_user_id uuid, p_strategy_id uuid, p_exchange text, p_symbol text, p_action text,
  p_fingerprint text, p_payload jsonb, p_is_paper boolean
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_began jsonb;
  v_is_paper boolean;
  v_is_sent boolean := false;
  v_unsettled jsonb;
begin
  if not public.has_lease(p_server) then
    return jsonb_build_object('state', 'standby');
  end if;
  select jsonb_agg(to_jsonb(r) order by r.created_at) into v_unsettled from public.webhook_requests r
    where r.user_id = p_user_id and r.exchange = p_exchange and r.symbol = p_symbol
      and r.strategy_id is not distinct from p_strategy_id and r.status in ('submitted', 'filled')
      and r.request_id is not null;
  if v_unsettled is not null and not exists (
    select from jsonb_array_elements(v_unsettled) u where u.value ->> 'request_id' = p_request_id
  ) and not exists ( -- what was answered is answered again
    select from public.webhook_requests r where r.user_id = p_user_id and r.request_id = p_request_id
      and r.status not in ('received', 'submitted', 'filled')
  ) then
    return jsonb_build_object('state', 'held', 'unsettled', v_unsettled);
  end if;
  perform set_config('synchronous_commit', 'off', true);
  v_began := public.begin_request(
    p_request_id, p_user_id, p_strategy_id, p_exchange, p_symbol, p_action, p_fingerprint, p_payload
  );
  if v_began ->> 'state' not in ('new', 'busy') then
    return v_began;
  end if;
  if v_began ->> 'state' = 'busy' then
    select r.status <> 'received' into v_is_sent from public.webhook_requests r
      where r.user_id = p_user_id and r.request_id = p_request_id;
  end if;
  select s.is_paper_trading into v_is_paper from public.ai_strategies s where s.id = p_strategy_id and s.user_id = p_user_id;
  v_is_paper := coalesce(v_is_paper, p_is_paper);
  return v_began || jsonb_build_object(
    'is_paper', v_is_paper,
    'is_sent', v_is_sent,
    'other_sides', case when v_is_paper and p_action <> 'CLOSE' then '[]'
      else public.other_sides(p_user_id, p_exchange, p_symbol, p_strategy_id) end,
    'portfolio', case when p_action <> 'CLOSE' then public.portfolio(p_user_id, p_exchange, p_strategy_id, v_is_paper) end,
    'positions', case when p_action = 'CLOSE' then public.own_positions(p_user_id, p_exchange, p_strategy_id, p_symbol) else '[]' end
  );
end
$$;
