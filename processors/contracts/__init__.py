"""One data contract per stream, and everything derived from it."""

from processors.contracts.load import ContractSet, load_contract, load_contracts, parse_contract
from processors.contracts.model import Contract

__all__ = ["Contract", "ContractSet", "load_contract", "load_contracts", "parse_contract"]
