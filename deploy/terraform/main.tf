# A Rotameter on each node, and a Prometheus that scrapes them. The provider is configured by your own code.
terraform {
  required_version = ">= 1.5"
  required_providers {
    kubernetes = {
      source  = "hashicorp/kubernetes"
      version = ">= 2.30"
    }
  }
}

locals {
  labels = {
    "app.kubernetes.io/name" = "rotameter"
  }
}

resource "kubernetes_namespace" "rotameter" {
  metadata {
    name = var.namespace
    labels = {
      "pod-security.kubernetes.io/enforce" = "privileged"
    }
  }
}

resource "kubernetes_service_account" "rotameter" {
  metadata {
    name      = "rotameter"
    namespace = kubernetes_namespace.rotameter.metadata[0].name
  }
  automount_service_account_token = false
}

resource "kubernetes_daemonset" "rotameter" {
  metadata {
    name      = "rotameter"
    namespace = kubernetes_namespace.rotameter.metadata[0].name
    labels    = local.labels
  }
  spec {
    selector {
      match_labels = local.labels
    }
    strategy {
      type = "RollingUpdate"
      rolling_update {
        max_unavailable = "1"
      }
    }
    template {
      metadata {
        labels = local.labels
        annotations = {
          "prometheus.io/scrape" = "true"
          "prometheus.io/port"   = "9102"
        }
      }
      spec {
        service_account_name             = kubernetes_service_account.rotameter.metadata[0].name
        automount_service_account_token  = false
        host_network                     = true
        dns_policy                       = "ClusterFirstWithHostNet"
        termination_grace_period_seconds = 20
        toleration {
          operator = "Exists"
        }
        container {
          name  = "rotameter"
          image = var.image
          args = concat(
            [
              "--statsd.listen-udp=:9125",
              "--statsd.listen-udp=:8125",
              "--log.format=json",
              "--profile=airflow",
              "--registry.max-series=${var.max_series}",
            ],
            var.xdp_interface == "" ? [] : ["--xdp.interface=${var.xdp_interface}"],
          )
          port {
            name           = "statsd"
            container_port = 9125
            protocol       = "UDP"
          }
          port {
            name           = "statsd-old"
            container_port = 8125
            protocol       = "UDP"
          }
          port {
            name           = "http"
            container_port = 9102
            protocol       = "TCP"
          }
          security_context {
            run_as_user                = 0
            allow_privilege_escalation = false
            read_only_root_filesystem  = true
            capabilities {
              drop = ["ALL"]
              add  = ["BPF", "PERFMON", "NET_ADMIN"]
            }
          }
          resources {
            requests = {
              cpu    = "100m"
              memory = "128Mi"
            }
            limits = {
              memory = "512Mi"
            }
          }
          liveness_probe {
            http_get {
              path = "/-/healthy"
              port = "http"
            }
            timeout_seconds   = 5
            failure_threshold = 6
          }
          readiness_probe {
            http_get {
              path = "/-/ready"
              port = "http"
            }
            timeout_seconds = 5
          }
        }
      }
    }
  }
}

# Headless: one address for each pod, for dns_sd_configs below.
resource "kubernetes_service" "rotameter" {
  metadata {
    name      = "rotameter"
    namespace = kubernetes_namespace.rotameter.metadata[0].name
    labels    = local.labels
  }
  spec {
    cluster_ip = "None"
    selector   = local.labels
    port {
      name        = "http"
      port        = 9102
      target_port = "http"
    }
  }
}

resource "kubernetes_config_map" "prometheus" {
  metadata {
    name      = "prometheus"
    namespace = kubernetes_namespace.rotameter.metadata[0].name
  }
  data = {
    "prometheus.yml" = yamlencode({
      global     = { scrape_interval = "15s", evaluation_interval = "15s" }
      rule_files = ["/etc/prometheus/rules-*.yml"]
      scrape_configs = [{
        job_name = "rotameter"
        dns_sd_configs = [{
          names = ["rotameter.${var.namespace}.svc"]
          type  = "A"
          port  = 9102
        }]
      }]
    })
    "rules-rotameter.yml" = file("${path.module}/../prometheus/rotameter.rules.yml")
  }
}

resource "kubernetes_deployment" "prometheus" {
  metadata {
    name      = "prometheus"
    namespace = kubernetes_namespace.rotameter.metadata[0].name
  }
  spec {
    replicas = 1
    selector {
      match_labels = { app = "prometheus" }
    }
    template {
      metadata {
        labels = { app = "prometheus" }
      }
      spec {
        container {
          name  = "prometheus"
          image = "prom/prometheus:v3.8.0"
          args  = ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
          port {
            container_port = 9090
          }
          volume_mount {
            name       = "config"
            mount_path = "/etc/prometheus"
          }
          volume_mount {
            name       = "data"
            mount_path = "/prometheus"
          }
        }
        volume {
          name = "config"
          config_map {
            name = kubernetes_config_map.prometheus.metadata[0].name
          }
        }
        volume {
          name = "data"
          empty_dir {}
        }
      }
    }
  }
}

resource "kubernetes_service" "prometheus" {
  metadata {
    name      = "prometheus"
    namespace = kubernetes_namespace.rotameter.metadata[0].name
  }
  spec {
    type     = "ClusterIP"
    selector = { app = "prometheus" }
    port {
      port        = 9090
      target_port = 9090
    }
  }
}
