output "security_group_id" {
  description = "The engine's group, for the databases to let in."
  value       = aws_security_group.engine.id
}

output "volume_id" {
  description = "The journal's disk, for snapshots."
  value       = aws_ebs_volume.journal.id
}
