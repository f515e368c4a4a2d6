"""What tests run beside the product: children with known behaviour, and programs that are watched from outside."""
