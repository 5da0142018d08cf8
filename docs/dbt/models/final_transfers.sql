{{ config(materialized='incremental', incremental_strategy='append') }}

with final as (
    select chain_id, final_to_block
    from {{ source('gapless', 'freshness') }}
    where contract = 'coins' and event = 'Transfer'
)
{% if is_incremental() %}
, done as (
    select chain_id, max(block_number) as to_block from {{ this }} group by chain_id
)
{% endif %}
select x.chain_id, x.block_number, x.block_time, x.log_index, gapless.hex(x.contract_address) as token,
       gapless.hex(x.from_address) as sender, gapless.hex(x.to_address) as recipient, x.value
from final
join {{ source('coins', 'transfer') }} x on x.chain_id = final.chain_id and x.block_number <= final.final_to_block
{% if is_incremental() %}
left join done on done.chain_id = x.chain_id
where x.block_number > coalesce(done.to_block, -1)
{% endif %}
