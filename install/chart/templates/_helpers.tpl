{{/* Names. */}}
{{- define "guildhall.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "guildhall.roomsNamespace" -}}
{{- default .Release.Namespace .Values.fleet.namespace -}}
{{- end -}}

{{/* The namespaces in which there are pods of ours. */}}
{{- define "guildhall.namespaces" -}}
{{- list .Release.Namespace (include "guildhall.roomsNamespace" .) | uniq | toJson -}}
{{- end -}}

{{/* The stateless services: who has a budget and a place in the ServiceMonitor. The console joins here. */}}
{{- define "guildhall.services" -}}
["frontend", "director", "matchfunction"]
{{- end -}}

{{- define "guildhall.priorityClass" -}}
{{- if .Values.priorityClass.create -}}
{{- default (include "guildhall.fullname" .) .Values.priorityClass.name -}}
{{- else -}}
{{- .Values.priorityClass.name -}}
{{- end -}}
{{- end -}}

{{/* Labels. */}}
{{- define "guildhall.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "guildhall.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "guildhall.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: guildhall
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* What is on pods has no version: a release that changes nothing of a pod must not replace it. */}}
{{- define "guildhall.podLabels" -}}
{{ include "guildhall.selector" . }}
app.kubernetes.io/part-of: guildhall
{{- end -}}

{{/* The image of a part: by digest if it has one. Wants root, part (its values) and path (their name). */}}
{{- define "guildhall.image" -}}
{{- $image := .part.image -}}
{{- $repository := $image.repository -}}
{{- if .root.Values.image.registry -}}
{{- $repository = printf "%s/%s" (trimSuffix "/" .root.Values.image.registry) $image.repository -}}
{{- end -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $repository $image.digest -}}
{{- else if .root.Values.image.requireDigest -}}
{{- fail (printf "%s.image.digest is not set, and image.requireDigest wants every image by its digest: sha256:…" .path) -}}
{{- else -}}
{{- printf "%s:%s" $repository (coalesce $image.tag .root.Values.image.tag .root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* Security. Both together are the restricted Pod Security Standard, and a root file system that nobody writes to. */}}
{{- define "guildhall.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .Values.securityContext.runAsUser }}
runAsGroup: {{ .Values.securityContext.runAsGroup }}
fsGroup: {{ .Values.securityContext.fsGroup }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "guildhall.containerSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .Values.securityContext.runAsUser }}
runAsGroup: {{ .Values.securityContext.runAsGroup }}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
privileged: false
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* Variables. */}}
{{- define "guildhall.env.common" -}}
- name: GUILDHALL_LOG_FORMAT
  value: json
- name: GUILDHALL_LOG_LEVEL
  value: {{ .Values.settings.logLevel | quote }}
- name: GUILDHALL_STOP_GRACE
  value: {{ .Values.settings.stopGrace | quote }}
{{- if .Values.settings.pprof }}
- name: GUILDHALL_PPROF
  value: "true"
{{- end }}
{{- with .Values.tracing }}
{{- if .otlpEndpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ .otlpEndpoint | quote }}
- name: OTEL_EXPORTER_OTLP_PROTOCOL
  value: {{ .protocol | quote }}
- name: OTEL_TRACES_SAMPLER
  value: {{ .sampler | quote }}
{{- if .samplerArg }}
- name: OTEL_TRACES_SAMPLER_ARG
  value: {{ .samplerArg | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "guildhall.env.nats" -}}
- name: GUILDHALL_NATS
  value: {{ .Values.nats.url | quote }}
- name: GUILDHALL_NATS_REPLICAS
  value: {{ .Values.nats.replicas | quote }}
- name: GUILDHALL_NATS_TIMEOUT
  value: {{ .Values.nats.timeout | quote }}
{{- if .Values.nats.credentials.secretName }}
- name: GUILDHALL_NATS_CREDS
  value: /etc/guildhall/nats/{{ .Values.nats.credentials.key }}
{{- end }}
{{- if .Values.nats.token.secretName }}
- name: GUILDHALL_NATS_TOKEN_FILE
  value: /etc/guildhall/nats-token/{{ .Values.nats.token.key }}
{{- end }}
{{- if .Values.nats.tls.secretName }}
- name: GUILDHALL_NATS_CA_FILE
  value: /etc/guildhall/nats-tls/ca.crt
{{- if .Values.nats.tls.client }}
- name: GUILDHALL_NATS_CERT_FILE
  value: /etc/guildhall/nats-tls/tls.crt
- name: GUILDHALL_NATS_KEY_FILE
  value: /etc/guildhall/nats-tls/tls.key
{{- end }}
{{- end }}
- name: GUILDHALL_KINDS
  value: {{ .Values.settings.kinds | quote }}
- name: GUILDHALL_LEASE_TTL
  value: {{ .Values.settings.leaseTTL | quote }}
{{- end -}}

{{/* All variables of a part: env (a list in YAML), then further ones in order of their names. Wants path for its errors. */}}
{{- define "guildhall.env" -}}
{{- range fromYamlArray .env }}
{{- if hasKey $.further .name }}
{{- fail (printf "%s.env has %s, which the chart sets itself: use the value that it comes from" $.path .name) }}
{{- end }}
{{- end }}
{{- .env }}
{{- range $name, $value := .further }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{/* What of NATS is in files: a list in YAML for guildhall.volume. */}}
{{- define "guildhall.files.nats" -}}
{{- with .Values.nats.credentials }}
{{- if .secretName }}
- {name: nats, secretName: {{ .secretName }}, key: {{ .key }}}
{{- end }}
{{- end }}
{{- with .Values.nats.token }}
{{- if .secretName }}
- {name: nats-token, secretName: {{ .secretName }}, key: {{ .key }}}
{{- end }}
{{- end }}
{{- with .Values.nats.tls }}
{{- if .secretName }}
- {name: nats-tls, secretName: {{ .secretName }}, keys: {{ ternary (list "ca.crt" "tls.crt" "tls.key") (list "ca.crt") .client | toJson }}}
{{- end }}
{{- end }}
{{- end -}}

{{/* Files: a Secret's key, or several, mounted at /etc/guildhall/NAME. Wants name, secretName, and key or keys. The whole
folder is mounted: a file mounted alone (subPath) stays what it was when its pod began. */}}
{{- define "guildhall.volume" -}}
- name: {{ .name }}
  secret:
    secretName: {{ .secretName }}
    defaultMode: 0440
    items:
      {{- range default (list .key) .keys }}
      - key: {{ . }}
        path: {{ . }}
      {{- end }}
{{- end -}}

{{- define "guildhall.volumeMount" -}}
- name: {{ .name }}
  mountPath: /etc/guildhall/{{ .name }}
  readOnly: true
{{- end -}}

{{/* A stateless service: wants root, name, part (its values), env (a list in YAML), files (a list of volumes),
ports, and token: whether it calls the Kubernetes API. */}}
{{- define "guildhall.deployment" -}}
{{- $root := .root -}}
{{- $name := printf "%s-%s" (include "guildhall.fullname" $root) .name -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "guildhall.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .name }}
spec:
  replicas: {{ .part.replicas }}
  # A new one is there before an old one goes.
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxSurge: 1
      maxUnavailable: 0
  selector:
    matchLabels:
      {{- include "guildhall.selector" $root | nindent 6 }}
      app.kubernetes.io/component: {{ .name }}
  template:
    metadata:
      labels:
        {{- with .part.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- include "guildhall.podLabels" $root | nindent 8 }}
        app.kubernetes.io/component: {{ .name }}
      {{- with .part.podAnnotations }}
      annotations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      serviceAccountName: {{ $name }}
      automountServiceAccountToken: {{ default false .token }}
      enableServiceLinks: false
      {{- with $root.Values.image.pullSecrets }}
      imagePullSecrets:
        {{- range . }}
        - name: {{ . }}
        {{- end }}
      {{- end }}
      {{- with include "guildhall.priorityClass" $root }}
      priorityClassName: {{ . }}
      {{- end }}
      terminationGracePeriodSeconds: {{ .part.terminationGracePeriodSeconds }}
      securityContext:
        {{- include "guildhall.podSecurity" $root | nindent 8 }}
      containers:
        - name: {{ .name }}
          image: {{ include "guildhall.image" (dict "root" $root "part" .part "path" .name) }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          securityContext:
            {{- include "guildhall.containerSecurity" $root | nindent 12 }}
          env:
            {{- $env := printf "%s\n%s" (include "guildhall.env.common" $root) .env }}
            {{- include "guildhall.env" (dict "env" $env "further" .part.env "path" .name) | nindent 12 }}
          ports:
            {{- range $port, $number := .ports }}
            - name: {{ $port }}
              containerPort: {{ $number }}
              protocol: TCP
            {{- end }}
            - name: admin
              containerPort: 9090
              protocol: TCP
          # A start that waits for NATS answers here already; one that cannot reach it exits, and is started again.
          startupProbe:
            httpGet: {path: /livez, port: admin}
            periodSeconds: 1
            failureThreshold: 60
          livenessProbe:
            httpGet: {path: /livez, port: admin}
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 3
          readinessProbe:
            httpGet: {path: /readyz, port: admin}
            periodSeconds: 2
            timeoutSeconds: 2
            failureThreshold: 2
          lifecycle:
            preStop:
              # Endpoints are slower than SIGTERM: whoever still calls finds it serving.
              sleep: {seconds: {{ .part.preStopSeconds }}}
          resources:
            {{- toYaml .part.resources | nindent 12 }}
          {{- with .files }}
          volumeMounts:
            {{- range . }}
            {{- include "guildhall.volumeMount" . | nindent 12 }}
            {{- end }}
          {{- end }}
      {{- with .files }}
      volumes:
        {{- range . }}
        {{- include "guildhall.volume" . | nindent 8 }}
        {{- end }}
      {{- end }}
      {{- if $root.Values.topologySpread.enabled }}
      {{- $component := .name }}
      topologySpreadConstraints:
        {{- range $root.Values.topologySpread.keys }}
        - maxSkew: 1
          topologyKey: {{ . }}
          whenUnsatisfiable: {{ $root.Values.topologySpread.whenUnsatisfiable }}
          # Of one revision: the pods of the last one are on their way out.
          matchLabelKeys: [pod-template-hash]
          labelSelector:
            matchLabels:
              {{- include "guildhall.selector" $root | nindent 14 }}
              app.kubernetes.io/component: {{ $component }}
        {{- end }}
      {{- end }}
      {{- with .part.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .part.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .part.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
{{- end -}}

{{/* The account of a stateless service. A pod that calls the Kubernetes API says so itself, and no other gets a token. */}}
{{- define "guildhall.serviceAccount" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "guildhall.fullname" .root }}-{{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "guildhall.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .name }}
automountServiceAccountToken: false
{{- end -}}

{{/* A headless Service: gRPC clients see every pod rather than one connection's worth. Wants root, name, port, portName. */}}
{{- define "guildhall.headlessService" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "guildhall.fullname" .root }}-{{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "guildhall.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .name }}
spec:
  clusterIP: None
  selector:
    {{- include "guildhall.selector" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .name }}
  ports:
    - name: {{ .portName }}
      port: {{ .port }}
      targetPort: {{ .portName }}
      protocol: TCP
      appProtocol: kubernetes.io/h2c
{{- end -}}
