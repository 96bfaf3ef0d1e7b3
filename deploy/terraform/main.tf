# A function under watchdog-lambda with its image repository, alarms, a dashboard and queries: the same
# resources as ../template.yaml.
#
#     terraform init
#     terraform apply -target=aws_ecr_repository.this          # then push the image to it
#     terraform apply -var image_tag=2026-11-28

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.32" # logging_config
    }
  }
}

data "aws_region" "current" {}

resource "aws_ecr_repository" "this" {
  name                 = var.name
  image_tag_mutability = "IMMUTABLE"
  image_scanning_configuration {
    scan_on_push = true
  }
}

# Lambda keeps its own copy of an image that a function uses.
resource "aws_ecr_lifecycle_policy" "this" {
  repository = aws_ecr_repository.this.name
  policy = jsonencode({
    rules = [{
      rulePriority = 1
      selection    = { tagStatus = "any", countType = "imageCountMoreThan", countNumber = 10 }
      action       = { type = "expire" }
    }]
  })
}

resource "aws_cloudwatch_log_group" "this" {
  name              = "/aws/lambda/${var.name}"
  retention_in_days = 30
}

resource "aws_iam_role" "this" {
  name = var.name
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "lambda.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_role_policy" "log" {
  name = "log"
  role = aws_iam_role.this.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
      Resource = "${aws_cloudwatch_log_group.this.arn}:*"
    }]
  })
}

resource "aws_lambda_function" "this" {
  function_name = var.name
  role          = aws_iam_role.this.arn
  package_type  = "Image"
  image_uri     = "${aws_ecr_repository.this.repository_url}:${var.image_tag}"
  architectures = ["x86_64"]
  memory_size   = 256
  timeout       = var.timeout
  environment {
    variables = { WATCHDOG_LAMBDA_GRACE_PERIOD = var.grace_period }
  }
  # The metric filters look for keys. With this format Lambda's own lines are JSON, too.
  logging_config {
    log_group             = aws_cloudwatch_log_group.this.name
    log_format            = "JSON"
    application_log_level = "INFO"
    system_log_level      = "INFO"
  }
}

locals {
  namespace = "watchdog-lambda"
  filters = {
    # One record for each timeout, however it ended.
    Timeouts = {
      pattern     = "{ $.event = \"watchdog.timeout\" }"
      description = "The watchdog has ended invocations that ran into their timeout."
    }
    # Invocations that could not be interrupted, so that Lambda killed them.
    Kills = {
      pattern     = "{ $.type = \"platform.report\" && $.record.status = \"timeout\" }"
      description = "Lambda has killed invocations that the watchdog could not end."
    }
    # A process that ended during an invocation. The watchdog's supervisor reports it, or else Lambda.
    Crashes = {
      pattern     = "{ $.event = \"watchdog.crash\" || ($.type = \"platform.report\" && ($.record.errorType = \"Runtime.ExitError\" || $.record.errorType = \"Runtime.OutOfMemory\")) }"
      description = "The function's process has ended in the middle of invocations."
    }
  }
  queries = {
    "where timeouts happen" = <<-QUERY
      filter event = "watchdog.timeout"
      | stats count(*) as timeouts, min(remaining_ms) as least_left_ms by location
      | sort timeouts desc
    QUERY
    "how timeouts end" = <<-QUERY
      filter event = "watchdog.timeout"
      | stats count(*) as timeouts by outcome, bin(1h)
    QUERY
    "where the time went" = <<-QUERY
      filter event = "watchdog.timeout" and ispresent(time_spent.lines.0.location)
      | stats count(*) as timeouts, avg(time_spent.lines.0.share) as share by time_spent.lines.0.location
      | sort timeouts desc
    QUERY
    "hooks that fail or take too long" = <<-QUERY
      filter event = "watchdog.timeout" and hooks.0.outcome != "ok"
      | fields @timestamp, request_id, hooks.0.name, hooks.0.outcome, hooks.0.duration_ms, hooks.0.error
      | sort @timestamp desc
    QUERY
    "killed and crashed invocations" = <<-QUERY
      filter type = "platform.report" and record.status != "success"
      | fields @timestamp, record.requestId, record.status, record.errorType, record.metrics.maxMemoryUsedMB
      | sort @timestamp desc
    QUERY
  }
}

resource "aws_cloudwatch_log_metric_filter" "count" {
  for_each       = local.filters
  name           = "${var.name}-${each.key}"
  log_group_name = aws_cloudwatch_log_group.this.name
  pattern        = each.value.pattern
  metric_transformation {
    namespace     = local.namespace
    name          = "${var.name}-${each.key}"
    value         = "1"
    default_value = "0"
  }
}

# How much time was left when the handler ended. If it is close to 0, the grace period is too short.
resource "aws_cloudwatch_log_metric_filter" "remaining_time" {
  name           = "${var.name}-RemainingTime"
  log_group_name = aws_cloudwatch_log_group.this.name
  pattern        = local.filters.Timeouts.pattern
  metric_transformation {
    namespace = local.namespace
    name      = "${var.name}-RemainingTime"
    value     = "$.remaining_ms"
    unit      = "Milliseconds"
  }
}

resource "aws_sns_topic" "alarms" {
  name = "${var.name}-alarms"
}

resource "aws_sns_topic_subscription" "email" {
  count     = var.alarm_email == "" ? 0 : 1
  topic_arn = aws_sns_topic.alarms.arn
  protocol  = "email"
  endpoint  = var.alarm_email
}

resource "aws_cloudwatch_metric_alarm" "count" {
  for_each            = local.filters
  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.description
  namespace           = local.namespace
  metric_name         = aws_cloudwatch_log_metric_filter.count[each.key].metric_transformation[0].name
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 1
  threshold           = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
}

# A timeout counts here as well, unless the handler or a fallback has answered.
resource "aws_cloudwatch_metric_alarm" "errors" {
  alarm_name          = "${var.name}-Errors"
  alarm_description   = "Invocations have failed, by a timeout or otherwise."
  namespace           = "AWS/Lambda"
  metric_name         = "Errors"
  dimensions          = { FunctionName = aws_lambda_function.this.function_name }
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 1
  threshold           = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
}

resource "aws_cloudwatch_query_definition" "this" {
  for_each        = local.queries
  name            = "${var.name}/${each.key}"
  log_group_names = [aws_cloudwatch_log_group.this.name]
  query_string    = trimspace(each.value)
}

resource "aws_cloudwatch_dashboard" "this" {
  dashboard_name = "${var.name}-timeouts"
  dashboard_body = jsonencode({
    widgets = [
      {
        type = "metric", x = 0, y = 0, width = 12, height = 6
        properties = {
          title = "Timeouts, kills, crashes", region = data.aws_region.current.id
          stat  = "Sum", period = 300, view = "timeSeries", stacked = false
          metrics = concat(
            [for name in ["Timeouts", "Kills", "Crashes"] : [local.namespace, "${var.name}-${name}"]],
            [["AWS/Lambda", "Errors", "FunctionName", aws_lambda_function.this.function_name]],
          )
        }
      },
      {
        type = "metric", x = 12, y = 0, width = 12, height = 6
        properties = {
          title = "Time left after a timeout", region = data.aws_region.current.id
          stat  = "Minimum", period = 300, view = "timeSeries", stacked = false
          metrics = [[local.namespace, "${var.name}-RemainingTime"]]
        }
      },
      {
        type = "log", x = 0, y = 6, width = 24, height = 6
        properties = {
          title = "Where timeouts happen", region = data.aws_region.current.id, view = "table"
          query = "SOURCE '${aws_cloudwatch_log_group.this.name}' | ${replace(trimspace(local.queries["where timeouts happen"]), "\n", " ")}"
        }
      },
    ]
  })
}
