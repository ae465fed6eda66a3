# One key for everything that is stored. Its policy lets the account's own roles grant it, and lets CloudWatch use it for this shop's
# groups of logs, which a key's default policy does not.

data "aws_caller_identity" "here" {}

data "aws_region" "here" {}

data "aws_iam_policy_document" "key" {
  statement {
    sid       = "Account"
    actions   = ["kms:*"]
    resources = ["*"]
    principals {
      type        = "AWS"
      identifiers = ["arn:aws:iam::${data.aws_caller_identity.here.account_id}:root"]
    }
  }
  statement {
    sid       = "Logs"
    actions   = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"]
    resources = ["*"]
    principals {
      type        = "Service"
      identifiers = ["logs.${data.aws_region.here.name}.amazonaws.com"]
    }
    condition {
      test     = "ArnLike"
      variable = "kms:EncryptionContext:aws:logs:arn"
      values   = ["arn:aws:logs:${data.aws_region.here.name}:${data.aws_caller_identity.here.account_id}:log-group:*${var.name}*"]
    }
  }
}

resource "aws_kms_key" "shop" {
  description             = "Everything that ${var.name} stores"
  policy                  = data.aws_iam_policy_document.key.json
  enable_key_rotation     = true
  deletion_window_in_days = var.deletion_window_days
}

resource "aws_kms_alias" "shop" {
  name          = "alias/${var.name}"
  target_key_id = aws_kms_key.shop.key_id
}
