-- The margin of positions: the mode they are entered with, and what is needed to know whether one on paper was liquidated.

-- The margin mode that an entry of the strategy wants, what its equity on paper has left beside the initial margins of what it holds,
-- and with which modes others hold the symbol live (null: as the account had it).
create or replace function public.entry_margin(p_user_id uuid, p_exchange text, p_symbol text, p_strategy_id uuid) returns jsonb
language sql stable security definer set search_path = '' as $$
  select jsonb_build_object(
    'wanted', (select s.margin_mode from public.ai_strategies s where s.id = p_strategy_id and s.user_id = p_user_id),
    'paper_free_usd', (
      select f.equity_usd - coalesce((
        select sum(public.quotient(p.position_size_usd, p.leverage)) from public.positions p
        where p.strategy_id = s.id and p.is_paper
      ), 0)
      from public.ai_strategies s cross join lateral public.strategy_equity(s.id, true, s.capital_usd) f
      where s.id = p_strategy_id and s.user_id = p_user_id
    ),
    'others', coalesce((
      select jsonb_agg(jsonb_build_object('margin_mode', p.margin_mode, 'strategy_name', s.name) order by p.entry_time, p.id)
      from public.positions p left join public.ai_strategies s on s.id = p.strategy_id
      where p.user_id = p_user_id and lower(p.exchange) = p_exchange and p.symbol = p_symbol and not p.is_paper
        and p.strategy_id is distinct from p_strategy_id
    ), '[]')
  )
$$;

-- Those of all people.
create or replace function public.paper_margins() returns jsonb
language sql stable security definer set search_path = '' as $$
  select public.paper_margins_of(null)
$$;

-- What is needed beside a paper position to know whether it was liquidated: when it was last entered or added to (the venue's
-- time), when it last changed, or where margin is cross anything of its strategy (prices of before then are not those of what
-- is
-- held now), and what its strategy has without it: capital and realised P&L, null without a strategy. Of one person, or with
-- null
-- of all.
create or replace function public.paper_margins_of(p_user_id uuid) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object(
    'position_id', p.id,
    'entered_ms', coalesce((
      select max(f.market_time_ms) from public.fills f where f.position_id = p.id and f.is_paper and f.kind = 'open'
    ), p.entry_market_time_ms),
    'changed_ms', greatest(
      (select max(f.market_time_ms) from public.fills f where f.position_id = p.id and f.is_paper),
      case when p.margin_mode = 'cross' then
        (select max(f.market_time_ms) from public.fills f where f.strategy_id = p.strategy_id and f.is_paper)
      end
    ),
    'wallet_usd', w.wallet_usd
  )), '[]')
  from public.positions p
  left join lateral (
    select s.capital_usd + public.finite_or_null(f.realized_pnl_usd) as wallet_usd
    from public.ai_strategies s cross join lateral public.strategy_equity(s.id, true, s.capital_usd) f
    where s.id = p.strategy_id
  ) w on true
  where p.is_paper and (p_user_id is null or p.user_id = p_user_id)
$$;

-- Notes of positions, by id: {"liquidation_price": …, "watched_until_ms": …}; what is not named stays. How many there were.
create or replace function public.note_margins(p_notes jsonb) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_count integer;
begin
  perform pg_advisory_xact_lock(hashtextextended('mark', 0)); -- as a marker: it cannot wait for one in a circle
  with held as (
    select p.id from public.positions p where p_notes ? p.id::text order by p.strategy_id, p.id for update
  )
  update public.positions p set
    liquidation_price = case when p_notes -> p.id::text ? 'liquidation_price'
      then (p_notes -> p.id::text ->> 'liquidation_price')::numeric else p.liquidation_price end,
    watched_until_ms = greatest(p.watched_until_ms, (p_notes -> p.id::text ->> 'watched_until_ms')::bigint)
    from held where p.id = held.id;
  get diagnostics v_count = row_count;
  return to_jsonb(v_count);
end
$$;

revoke execute on function
  public.entry_margin, public.paper_margins, public.paper_margins_of, public.note_margins
  from public, anon, authenticated;
grant execute on function
  public.entry_margin, public.paper_margins, public.paper_margins_of, public.note_margins
  to service_role;
