"""Vendor, mailbox, payroll and bank, played deterministically with a durable ledger of effects."""
