# The network: three zones; public subnets for the balancer and the ways out, private ones for nodes, and a third kind, without any
# way to the internet, for databases.

locals {
  # One address block, cut once: 10.20.0.0/16 gives public 10.20.0.0/20 (a /22 each), private 10.20.64.0/18, data 10.20.128.0/18.
  # The Kubernetes overlay names the same blocks.
  public_block  = cidrsubnet(var.block, 4, 0)
  private_block = cidrsubnet(var.block, 2, 1)
  data_block    = cidrsubnet(var.block, 2, 2)
}

resource "aws_vpc" "shop" {
  cidr_block           = var.block
  enable_dns_hostnames = true
  enable_dns_support   = true
  tags                 = { Name = var.name }
}

# What the default group allows, nobody has to know: nothing.
resource "aws_default_security_group" "none" {
  vpc_id = aws_vpc.shop.id
}

resource "aws_internet_gateway" "way_out" {
  vpc_id = aws_vpc.shop.id
  tags   = { Name = var.name }
}

resource "aws_subnet" "public" {
  count             = length(var.zones)
  vpc_id            = aws_vpc.shop.id
  availability_zone = var.zones[count.index]
  cidr_block        = cidrsubnet(local.public_block, 2, count.index)
  # The label by which Kubernetes finds subnets for balancers.
  tags = { Name = "${var.name}-public-${count.index}", "kubernetes.io/role/elb" = "1" }
}

resource "aws_subnet" "private" {
  count             = length(var.zones)
  vpc_id            = aws_vpc.shop.id
  availability_zone = var.zones[count.index]
  cidr_block        = cidrsubnet(local.private_block, 2, count.index)
  tags              = { Name = "${var.name}-private-${count.index}", "kubernetes.io/role/internal-elb" = "1" }
}

resource "aws_subnet" "data" {
  count             = length(var.zones)
  vpc_id            = aws_vpc.shop.id
  availability_zone = var.zones[count.index]
  cidr_block        = cidrsubnet(local.data_block, 2, count.index)
  tags              = { Name = "${var.name}-data-${count.index}" }
}

resource "aws_route_table" "public" {
  vpc_id = aws_vpc.shop.id
  tags   = { Name = "${var.name}-public" }
}

resource "aws_route" "public_out" {
  route_table_id         = aws_route_table.public.id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.way_out.id
}

resource "aws_route_table_association" "public" {
  count          = length(var.zones)
  subnet_id      = aws_subnet.public[count.index].id
  route_table_id = aws_route_table.public.id
}

# One for each zone: with a single one, the loss of its zone would cut payments off in the two others.
resource "aws_eip" "nat" {
  count  = length(var.zones)
  domain = "vpc"
  tags   = { Name = "${var.name}-nat-${count.index}" }
}

resource "aws_nat_gateway" "private" {
  count         = length(var.zones)
  allocation_id = aws_eip.nat[count.index].id
  subnet_id     = aws_subnet.public[count.index].id
  tags          = { Name = "${var.name}-${count.index}" }
  depends_on    = [aws_internet_gateway.way_out]
}

resource "aws_route_table" "private" {
  count  = length(var.zones)
  vpc_id = aws_vpc.shop.id
  tags   = { Name = "${var.name}-private-${count.index}" }
}

resource "aws_route" "private_out" {
  count                  = length(var.zones)
  route_table_id         = aws_route_table.private[count.index].id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = aws_nat_gateway.private[count.index].id
}

resource "aws_route_table_association" "private" {
  count          = length(var.zones)
  subnet_id      = aws_subnet.private[count.index].id
  route_table_id = aws_route_table.private[count.index].id
}

# Databases answer; they call nobody. Their table has no way out.
resource "aws_route_table" "data" {
  vpc_id = aws_vpc.shop.id
  tags   = { Name = "${var.name}-data" }
}

resource "aws_route_table_association" "data" {
  count          = length(var.zones)
  subnet_id      = aws_subnet.data[count.index].id
  route_table_id = aws_route_table.data.id
}

# Who talked to whom, for the morning after.
resource "aws_flow_log" "shop" {
  vpc_id               = aws_vpc.shop.id
  traffic_type         = "REJECT"
  log_destination_type = "cloud-watch-logs"
  log_destination      = aws_cloudwatch_log_group.flows.arn
  iam_role_arn         = aws_iam_role.flows.arn
}

resource "aws_cloudwatch_log_group" "flows" {
  name              = "/${var.name}/flows"
  retention_in_days = 365
  kms_key_id        = var.key_arn
}

resource "aws_iam_role" "flows" {
  name               = "${var.name}-flows"
  assume_role_policy = data.aws_iam_policy_document.flows_assume.json
}

data "aws_iam_policy_document" "flows_assume" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["vpc-flow-logs.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "flows" {
  statement {
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"]
    resources = ["${aws_cloudwatch_log_group.flows.arn}:*"]
  }
}

resource "aws_iam_role_policy" "flows" {
  name   = "write-flows"
  role   = aws_iam_role.flows.id
  policy = data.aws_iam_policy_document.flows.json
}
