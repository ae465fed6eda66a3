output "address" {
  description = "Host and port, for the secret `database-url`."
  value       = aws_db_instance.shop.endpoint
}

output "password_secret_arn" {
  description = "Where the service keeps the password."
  value       = aws_db_instance.shop.master_user_secret[0].secret_arn
}
