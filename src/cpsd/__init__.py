"""Multi-label image classification by complementary parallel self-distillation."""
