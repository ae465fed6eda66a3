# Kubernetes: a managed control plane, a group of nodes for everything, and one for the engine alone.

data "aws_iam_policy_document" "control_plane_assume" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["eks.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "control_plane" {
  name               = "${var.name}-control-plane"
  assume_role_policy = data.aws_iam_policy_document.control_plane_assume.json
}

resource "aws_iam_role_policy_attachment" "control_plane" {
  role       = aws_iam_role.control_plane.name
  policy_arn = "arn:aws:iam::aws:policy/AmazonEKSClusterPolicy"
}

resource "aws_cloudwatch_log_group" "control_plane" {
  name              = "/aws/eks/${var.name}/cluster"
  retention_in_days = 365
  kms_key_id        = var.key_arn
}

resource "aws_eks_cluster" "shop" {
  name                      = var.name
  role_arn                  = aws_iam_role.control_plane.arn
  version                   = var.kubernetes_version
  enabled_cluster_log_types = ["api", "audit", "authenticator", "controllerManager", "scheduler"]

  vpc_config {
    subnet_ids = var.private_subnet_ids
    # The API is reached from inside: by a bastion, a VPN, or the deploy workflow's own runner there.
    endpoint_private_access = true
    endpoint_public_access  = false
  }

  # Secrets in etcd, the rescue key among them.
  encryption_config {
    provider {
      key_arn = var.key_arn
    }
    resources = ["secrets"]
  }

  depends_on = [aws_iam_role_policy_attachment.control_plane, aws_cloudwatch_log_group.control_plane]
}

data "aws_iam_policy_document" "nodes_assume" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "nodes" {
  name               = "${var.name}-nodes"
  assume_role_policy = data.aws_iam_policy_document.nodes_assume.json
}

resource "aws_iam_role_policy_attachment" "nodes" {
  for_each = toset([
    "arn:aws:iam::aws:policy/AmazonEKSWorkerNodePolicy",
    "arn:aws:iam::aws:policy/AmazonEKS_CNI_Policy",
    "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryReadOnly",
  ])
  role       = aws_iam_role.nodes.name
  policy_arn = each.value
}

resource "aws_launch_template" "nodes" {
  name_prefix = "${var.name}-"
  # A pod that asks the metadata service for the node's identity gets no answer: one hop ends at the node.
  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }
  block_device_mappings {
    device_name = "/dev/xvda"
    ebs {
      volume_size = 50
      volume_type = "gp3"
      encrypted   = true
    }
  }
}

resource "aws_eks_node_group" "everything" {
  cluster_name    = aws_eks_cluster.shop.name
  node_group_name = "everything"
  node_role_arn   = aws_iam_role.nodes.arn
  subnet_ids      = var.private_subnet_ids
  instance_types  = [var.everything_instance_type]
  launch_template {
    id      = aws_launch_template.nodes.id
    version = aws_launch_template.nodes.latest_version
  }
  scaling_config {
    min_size     = 2
    desired_size = 2
    max_size     = 6
  }
  depends_on = [aws_iam_role_policy_attachment.nodes]
}

# The engine's node: fast cores, its own, and a second one warm, so that a lost node is replaced in the time of a start and not of
# a purchase. In one zone, because a volume of EBS cannot leave its zone; the rescue copy is what survives the loss of that.
resource "aws_eks_node_group" "engine" {
  cluster_name    = aws_eks_cluster.shop.name
  node_group_name = "engine"
  node_role_arn   = aws_iam_role.nodes.arn
  subnet_ids      = [var.private_subnet_ids[0]]
  instance_types  = [var.engine_instance_type]
  labels          = { "doorbuster.example/role" = "engine" }
  taint {
    key    = "doorbuster.example/role"
    value  = "engine"
    effect = "NO_SCHEDULE"
  }
  launch_template {
    id      = aws_launch_template.nodes.id
    version = aws_launch_template.nodes.latest_version
  }
  scaling_config {
    min_size     = 2
    desired_size = 2
    max_size     = 2
  }
  depends_on = [aws_iam_role_policy_attachment.nodes]
}

# Volumes for the journal: the driver, and who it is.
resource "aws_eks_addon" "volumes" {
  cluster_name             = aws_eks_cluster.shop.name
  addon_name               = "aws-ebs-csi-driver"
  service_account_role_arn = aws_iam_role.volumes.arn
  depends_on               = [aws_eks_node_group.everything]
}

# Without it no NetworkPolicy has any effect.
resource "aws_eks_addon" "network" {
  cluster_name         = aws_eks_cluster.shop.name
  addon_name           = "vpc-cni"
  configuration_values = jsonencode({ enableNetworkPolicy = "true" })
}

resource "aws_iam_openid_connect_provider" "cluster" {
  url            = aws_eks_cluster.shop.identity[0].oidc[0].issuer
  client_id_list = ["sts.amazonaws.com"]
}

data "aws_iam_policy_document" "volumes_assume" {
  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]
    principals {
      type        = "Federated"
      identifiers = [aws_iam_openid_connect_provider.cluster.arn]
    }
    condition {
      test     = "StringEquals"
      variable = "${replace(aws_eks_cluster.shop.identity[0].oidc[0].issuer, "https://", "")}:sub"
      values   = ["system:serviceaccount:kube-system:ebs-csi-controller-sa"]
    }
  }
}

resource "aws_iam_role" "volumes" {
  name               = "${var.name}-volumes"
  assume_role_policy = data.aws_iam_policy_document.volumes_assume.json
}

resource "aws_iam_role_policy_attachment" "volumes" {
  role       = aws_iam_role.volumes.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonEBSCSIDriverPolicy"
}
