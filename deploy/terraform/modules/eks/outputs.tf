output "cluster_name" {
  description = "For aws eks update-kubeconfig."
  value       = aws_eks_cluster.shop.name
}

output "node_security_group_id" {
  description = "The group of all nodes, for the databases to let in."
  value       = aws_eks_cluster.shop.vpc_config[0].cluster_security_group_id
}
