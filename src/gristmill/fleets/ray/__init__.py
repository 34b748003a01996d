"""The Ray fleet: long-lived Ray actors hold the slots, Ray places them and moves blocks between them."""
