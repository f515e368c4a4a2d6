-- What an entry may cost, how a position is margined, and what funding it paid or received.

alter table public.ai_strategies
  add column if not exists max_spread_percent numeric(7, 4) check (max_spread_percent > 0 and max_spread_percent <= 100),
  add column if not exists max_slippage_percent numeric(7, 4) check (max_slippage_percent > 0 and max_slippage_percent <= 100),
  add column if not exists margin_mode text check (margin_mode in ('isolated', 'cross'));

alter table public.trade_settings_exchange
  add column if not exists max_spread_percent numeric(7, 4) check (max_spread_percent > 0 and max_spread_percent <= 100),
  add column if not exists max_slippage_percent numeric(7, 4) check (max_slippage_percent > 0 and max_slippage_percent <= 100);

-- Funding in USD, positive when received. A partial close moves its share to the trade, as it does with fees.
alter table public.positions
  add column if not exists funding_usd numeric not null default 0,
  add column if not exists margin_mode text check (margin_mode in ('isolated', 'cross'));
alter table public.trades add column if not exists funding_usd numeric not null default 0;

comment on column public.ai_strategies.max_spread_percent is
  'no entry while the ask is more than so many percent above the bid; null: the default';
comment on column public.ai_strategies.max_slippage_percent is
  'no entry that the order book would fill, on average, so many percent worse than its best price; null: the default';
comment on column public.ai_strategies.margin_mode is
  'isolated or cross, set and read back before a live entry; null: live as the account has it, on paper isolated';
comment on column public.positions.funding_usd is 'funding in USD since it was opened, positive when received';
comment on column public.trades.funding_usd is 'its share of the funding in USD, positive when received; part of pnl_usd';

create or replace trigger check_figures before insert or update on public.ai_strategies
  for each row execute function public.check_figures(
    'cadence_seconds', 'min_confidence', 'max_drawdown_percent', 'max_position_usd', 'capital_usd', 'daily_llm_budget_usd',
    'max_entry_percent', 'min_stop_loss_percent', 'max_spread_percent', 'max_slippage_percent'
  );

create or replace function public.create_strategy(p_strategy jsonb) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_strategy public.ai_strategies := jsonb_populate_record(null::public.ai_strategies, p_strategy);
begin
  if exists (
    select from public.ai_strategies s
    where s.user_id = v_strategy.user_id and s.name = v_strategy.name and s.status <> 'terminated'
  ) then
    raise exception 'there is already a strategy called %', v_strategy.name using errcode = 'SK409';
  end if;
  insert into public.ai_strategies (
    user_id, name, status, risk_profile, target_assets, exchange, is_paper_trading, cadence_seconds, min_confidence,
    max_drawdown_percent, leverage_max, max_position_usd, capital_usd, daily_llm_budget_usd, model, custom_prompt,
    context_intervals, stop_loss_required, max_entry_percent, adding, min_stop_loss_percent, max_spread_percent,
    max_slippage_percent, margin_mode
  ) values (
    v_strategy.user_id, v_strategy.name, v_strategy.status, v_strategy.risk_profile, v_strategy.target_assets,
    v_strategy.exchange, v_strategy.is_paper_trading, v_strategy.cadence_seconds, v_strategy.min_confidence,
    v_strategy.max_drawdown_percent, v_strategy.leverage_max, v_strategy.max_position_usd, v_strategy.capital_usd,
    v_strategy.daily_llm_budget_usd, v_strategy.model, v_strategy.custom_prompt, coalesce(v_strategy.context_intervals, '{}'),
    v_strategy.stop_loss_required, v_strategy.max_entry_percent, v_strategy.adding, v_strategy.min_stop_loss_percent,
    v_strategy.max_spread_percent, v_strategy.max_slippage_percent, v_strategy.margin_mode
  ) returning * into v_strategy;
  return to_jsonb(v_strategy);
end
$$;

-- People set them like the other limits of their strategies.
grant insert (max_spread_percent, max_slippage_percent, margin_mode) on public.ai_strategies to authenticated;
grant update (max_spread_percent, max_slippage_percent, margin_mode) on public.ai_strategies to authenticated;

notify pgrst, 'reload schema';
