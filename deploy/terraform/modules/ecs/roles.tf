# Who may do what: the instance attaches one volume, the agent fetches one secret and one image, the engine itself may do nothing.

data "aws_iam_policy_document" "instance_assume" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "instance" {
  name               = "${var.name}-instance"
  assume_role_policy = data.aws_iam_policy_document.instance_assume.json
}

resource "aws_iam_role_policy_attachment" "instance" {
  role       = aws_iam_role.instance.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonEC2ContainerServiceforEC2Role"
}

data "aws_caller_identity" "here" {}

data "aws_iam_policy_document" "attach" {
  statement {
    actions = ["ec2:AttachVolume"]
    resources = [
      aws_ebs_volume.journal.arn,
      "arn:aws:ec2:${data.aws_region.here.name}:${data.aws_caller_identity.here.account_id}:instance/*",
    ]
  }
  # Attaching an encrypted volume hands its key on to the instance's host, and to nobody else.
  statement {
    actions   = ["kms:CreateGrant"]
    resources = [var.key_arn]
    condition {
      test     = "Bool"
      variable = "kms:GrantIsForAWSResource"
      values   = ["true"]
    }
  }
}

resource "aws_iam_role_policy" "attach" {
  name   = "attach-journal"
  role   = aws_iam_role.instance.id
  policy = data.aws_iam_policy_document.attach.json
}

resource "aws_iam_instance_profile" "instance" {
  name = "${var.name}-instance"
  role = aws_iam_role.instance.name
}

data "aws_iam_policy_document" "execution_assume" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "execution" {
  name               = "${var.name}-execution"
  assume_role_policy = data.aws_iam_policy_document.execution_assume.json
}

resource "aws_iam_role_policy_attachment" "execution" {
  role       = aws_iam_role.execution.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
}

data "aws_iam_policy_document" "secret" {
  statement {
    actions   = ["secretsmanager:GetSecretValue"]
    resources = [var.secret_arn]
  }
  statement {
    actions   = ["kms:Decrypt"]
    resources = [var.key_arn]
  }
}

resource "aws_iam_role_policy" "secret" {
  name   = "read-secret"
  role   = aws_iam_role.execution.id
  policy = data.aws_iam_policy_document.secret.json
}
