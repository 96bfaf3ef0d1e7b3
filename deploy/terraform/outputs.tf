output "repository_url" {
  description = "Where to push the image."
  value       = aws_ecr_repository.this.repository_url
}

output "function_name" {
  description = "For aws lambda invoke."
  value       = aws_lambda_function.this.function_name
}

output "alarm_topic" {
  description = "The SNS topic that the alarms are sent to."
  value       = aws_sns_topic.alarms.arn
}
